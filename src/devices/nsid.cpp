// SPDX-License-Identifier: MIT
#include "devices/nsid.hpp"

#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>

#include <cerrno>
#include <utility>

#include "base/error.hpp"
#include "netlink/attributes.hpp"

namespace netkit_bpf::nsid {

namespace {

std::optional<int> find(NetlinkSocket& netlink, const netns::Namespace& other, std::optional<int> third) {
  const auto use = other.use();
  Message message(RTM_GETNSID, NLM_F_REQUEST);
  message.header(rtgenmsg{}).put_u32(NETNSA_FD, static_cast<uint32_t>(use.fd()));
  if (third) message.put_u32(NETNSA_TARGET_NSID, static_cast<uint32_t>(*third));
  std::optional<int> id;
  const auto take = [&](const nlmsghdr* header) {
    const Attributes found(header, sizeof(rtgenmsg), NETNSA_MAX);
    if (const auto number = found.u32(NETNSA_NSID)) id = static_cast<int>(*number);
  };
  netlink.request({std::move(message), "look up the number of a network namespace", take, {}});
  if (id == NETNSA_NSID_NOT_ASSIGNED) id.reset();
  return id;
}

}  // namespace

std::optional<int> find(NetlinkSocket& netlink, const netns::Namespace& other) { return find(netlink, other, {}); }

std::optional<int> find_in(NetlinkSocket& netlink, int third, const netns::Namespace& other) {
  return find(netlink, other, third);
}

int find_or_assign(NetlinkSocket& netlink, const netns::Namespace& other) {
  if (const auto found = find(netlink, other)) return *found;
  const auto use = other.use();
  Message message(RTM_NEWNSID, NLM_F_REQUEST);
  message.header(rtgenmsg{})
      .put_u32(NETNSA_FD, static_cast<uint32_t>(use.fd()))
      .put_u32(NETNSA_NSID, static_cast<uint32_t>(NETNSA_NSID_NOT_ASSIGNED));  // any
  try {
    netlink.request({std::move(message), "give a network namespace a number", {}, [](int error) {
                       return error == EPERM ? "needs CAP_NET_ADMIN" : "";
                     }});
  } catch (const Error& error) {
    if (error.number() != EEXIST) throw;  // another process was faster
  }
  if (const auto found = find(netlink, other)) return *found;
  throw Error(ENOENT, "give a network namespace a number");
}

}  // namespace netkit_bpf::nsid
