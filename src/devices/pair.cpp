// SPDX-License-Identifier: MIT
#include "devices/pair.hpp"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "base/error.hpp"
#include "base/netns.hpp"

namespace netkit_bpf::netkit {

namespace {

constexpr size_t most_at_once = 32;  // after a refusal the rest is not tried

// The requests of one socket. An errno may be allowed to one of them.
class Batch {
 public:
  explicit Batch(NetlinkSocket& netlink) : netlink_(&netlink) {}

  [[nodiscard]] bool is_of(const NetlinkSocket& netlink) const { return netlink_ == &netlink; }

  void add(Request request, int allowed = 0) {
    requests_.push_back(std::move(request));
    allowed_.push_back(allowed);
  }

  // Throws the first refusal.
  void run() {
    const auto refused = netlink_->exchange(requests_);
    for (size_t i = 0; i < refused.size(); ++i) {
      const std::optional<Error>& error = refused[i];
      if (error && error->number() != allowed_[i]) throw Error(*error);
    }
  }

 private:
  NetlinkSocket* netlink_;
  std::vector<Request> requests_;
  std::vector<int> allowed_;
};

class Batches {
 public:
  Batch& of(NetlinkSocket& netlink) {
    const auto found =
        std::find_if(batches_.begin(), batches_.end(), [&](const Batch& batch) { return batch.is_of(netlink); });
    return found != batches_.end() ? *found : batches_.emplace_back(netlink);
  }

  void run() {
    for (Batch& batch : batches_) batch.run();
  }

 private:
  std::vector<Batch> batches_;
};

// Sets everything that creation did not. The final state of `end` is read into it.
void configure(Batch& batch, const PairOptions& options, const DeviceOptions& wanted, DeviceInfo& end) {
  const DeviceRef device{end.ifindex, wanted.name};
  DeviceOptions later;
  later.alias = wanted.alias;
  later.addrgenmode = wanted.addrgenmode;
  if (later.alias || later.addrgenmode)
    batch.add(device::changing(device, later, "set alias and addrgenmode of " + wanted.name));
  if (options.mode == Mode::l3 && !wanted.addrgenmode) {
    // Without a MAC both ends would get the same link-local address, fe80::200:ff:fe00:0. Set before the device is up,
    // when it would get the address. Without IPv6 there is no such address.
    DeviceOptions quiet;
    quiet.addrgenmode = static_cast<uint8_t>(AddrGenMode::none);
    batch.add(device::changing(device, quiet, "set the addrgenmode of " + wanted.name), EAFNOSUPPORT);
  }
  if (options.up) batch.add(device::setting_up(device, true));  // the kernel ignores IFF_UP of the peer at creation
  batch.add(device::getting(device, end));
}

void make_some(NetlinkSocket& netlink, std::span<const Order> orders, std::span<Pair> pairs) {
  std::vector<netns::Namespace::Use> spaces;  // held until the kernel has read their descriptors
  std::vector<Request> requests;
  for (size_t i = 0; i < orders.size(); ++i) {
    const auto& space = orders[i].options->peer_netns;
    if (space) spaces.push_back(space->use());
    requests.push_back(creating(*orders[i].options, space ? spaces.back().fd() : -1, pairs[i].primary));
  }
  auto refused = netlink.exchange(requests);
  for (size_t i = 0; i < orders.size(); ++i) {
    const PairOptions& options = *orders[i].options;
    std::optional<Error>& error = refused[i];
    // The peer registers first, and in a new namespace it may take the number that the primary was to have. Numbers are
    // given out in turn, so a second attempt gets another one.
    if (error && error->number() == EBUSY && options.primary.ifindex && !options.peer.ifindex)
      error = netlink.exchange({&requests[i], 1}).front();
  }
  for (size_t i = 0; i < orders.size(); ++i) {
    const std::optional<Error>& error = refused[i];
    if (!error) continue;
    throw_if_not_supported(*error, *orders[i].options);
    throw Error(*error);
  }
  for (Pair& pair : pairs) pair.peer.ifindex = pair.primary.link;
}

void make(NetlinkSocket& netlink, std::span<const Order> orders, std::span<Pair> pairs) {
  while (!orders.empty()) {
    const size_t some = std::min(orders.size(), most_at_once);
    make_some(netlink, orders.first(some), pairs.first(some));
    orders = orders.subspan(some);
    pairs = pairs.subspan(some);
  }
}

void undo(NetlinkSocket& netlink, std::span<const Pair> pairs) noexcept {
  try {
    std::vector<Request> requests;
    for (const Pair& pair : pairs) {
      if (pair.primary.ifindex != 0) requests.push_back(device::removing({pair.primary.ifindex, pair.primary.name}));
    }
    static_cast<void>(netlink.exchange(requests));
  } catch (const std::exception&) {  // the caller is told what failed first
  }
}

}  // namespace

std::vector<Pair> create(NetlinkSocket& netlink, std::span<const Order> orders) {
  std::vector<Pair> pairs(orders.size());
  try {
    make(netlink, orders, pairs);
    Batches batches;
    for (size_t i = 0; i < orders.size(); ++i) {
      const PairOptions& options = *orders[i].options;
      check_taken(options, pairs[i].primary.netkit);
      configure(batches.of(netlink), options, options.primary, pairs[i].primary);
      configure(batches.of(*orders[i].peer_netlink), options, options.peer, pairs[i].peer);
    }
    batches.run();
    Batch again(netlink);  // the primary's carrier came when the peer was set up
    for (Pair& pair : pairs) again.add(device::getting({pair.primary.ifindex, pair.primary.name}, pair.primary));
    again.run();
    for (size_t i = 0; i < orders.size(); ++i) {
      check_taken(orders[i].options->primary, pairs[i].primary);
      check_taken(orders[i].options->peer, pairs[i].peer);
    }
  } catch (...) {
    undo(netlink, pairs);
    throw;
  }
  return pairs;
}

DeviceInfo create_single(NetlinkSocket& netlink, const PairOptions& options) {
  std::vector<Pair> one(1);
  DeviceInfo& made = one.front().primary;
  Request request = creating(options, -1, made);
  if (const auto refused = netlink.exchange({&request, 1}).front()) {
    throw_if_not_supported(*refused, options);
    // A kernel that makes a pair instead gives the peer, which comes first, the first free nk%d: was it this name?
    if (refused->number() == EEXIST && !device::exists(netlink, options.primary.name))
      throw NotSupported("single netkit devices", "7.1");
    throw Error(*refused);
  }
  try {
    check_taken(options, made.netkit);
    Batch batch(netlink);
    configure(batch, options, options.primary, made);
    batch.run();
    check_taken(options.primary, made);
  } catch (...) {
    undo(netlink, one);
    throw;
  }
  return made;
}

void set_policy(NetlinkSocket& netlink, const DeviceRef& primary, Policy policy, bool of_peer) {
  ifinfomsg header{};
  header.ifi_index = primary.ifindex;
  Message message(RTM_NEWLINK, NLM_F_REQUEST);
  message.header(header).nest(IFLA_LINKINFO, [&](Message& info) {
    info.put_string(IFLA_INFO_KIND, "netkit");
    info.nest(IFLA_INFO_DATA, [&](Message& data) {
      data.put_u32(of_peer ? attribute::peer_policy : attribute::policy, static_cast<uint32_t>(policy));
    });
  });
  netlink.request({std::move(message), "set the policy of " + primary.name, {}, [](int error) {
                     return error == EACCES ? "this is the peer: open the pair again" : device::advice(error);
                   }});
}

}  // namespace netkit_bpf::netkit
