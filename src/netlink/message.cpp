// SPDX-License-Identifier: MIT
#include "netlink/message.hpp"

#include <netlink/attr.h>
#include <netlink/errno.h>

#include <cerrno>
#include <new>

#include "base/error.hpp"

namespace netkit_bpf {

namespace {

void check(int result) {
  if (result < 0) throw Error(ENOBUFS, "build netlink message", nl_geterror(result));
}

}  // namespace

Message::Message(int type, int flags) : message_(nlmsg_alloc_simple(type, flags), nlmsg_free) {
  if (!message_) throw std::bad_alloc();
}

void Message::append(const void* data, size_t size) {
  check(nlmsg_append(get(), const_cast<void*>(data), size, NLMSG_ALIGNTO));
}

Message& Message::put(int attribute, const void* data, size_t size) {
  check(nla_put(get(), attribute, static_cast<int>(size), data));
  return *this;
}

Message& Message::put_u8(int attribute, uint8_t value) { return put(attribute, &value, sizeof(value)); }
Message& Message::put_u16(int attribute, uint16_t value) { return put(attribute, &value, sizeof(value)); }
Message& Message::put_u32(int attribute, uint32_t value) { return put(attribute, &value, sizeof(value)); }
Message& Message::put_string(int attribute, const std::string& value) {
  return put(attribute, value.c_str(), value.size() + 1);
}

Message& Message::nest(int attribute, const std::function<void(Message&)>& fill) {
  nlattr* start = nla_nest_start(get(), attribute);
  if (start == nullptr) throw Error(ENOBUFS, "build netlink message");
  fill(*this);
  nla_nest_end(get(), start);
  return *this;
}

}  // namespace netkit_bpf
