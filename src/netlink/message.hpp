// SPDX-License-Identifier: MIT
// A netlink message that is being written.
#pragma once

#include <netlink/msg.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace netkit_bpf {

class Message {
 public:
  Message(int type, int flags);

  template <typename Header>
  Message& header(const Header& fixed) {
    append(&fixed, sizeof(fixed));
    return *this;
  }
  Message& put_u8(int attribute, uint8_t value);
  Message& put_u16(int attribute, uint16_t value);
  Message& put_u32(int attribute, uint32_t value);
  Message& put(int attribute, const void* data, size_t size);
  Message& put_string(int attribute, const std::string& value);
  // Attributes that `fill` puts lie inside this one.
  Message& nest(int attribute, const std::function<void(Message&)>& fill);
  // A fixed header inside a nest (of IFLA_NETKIT_PEER_INFO).
  void append(const void* data, size_t size);

  [[nodiscard]] nl_msg* get() const noexcept { return message_.get(); }

 private:
  std::unique_ptr<nl_msg, decltype(&nlmsg_free)> message_;
};

}  // namespace netkit_bpf
