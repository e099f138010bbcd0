// SPDX-License-Identifier: MIT
#include "netlink.hpp"

#include <linux/netlink.h>
#include <netlink/handlers.h>
#include <sys/socket.h>

#include <cerrno>
#include <new>

#include "error.hpp"
#include "netns.hpp"

namespace netkit_bpf {

namespace {

void check(int result) {
  if (result < 0) throw Error(ENOBUFS, "build netlink message", nl_geterror(result));
}

int to_errno(int nl_error) {
  switch (-nl_error) {
    case NLE_NOMEM:
      return ENOMEM;
    case NLE_PERM:
      return EPERM;
    case NLE_INTR:
      return EINTR;
    default:
      return EIO;
  }
}

// What arrives for one request. Filled by libnl's callbacks, which must not throw.
struct Answer {
  const std::function<void(const nlmsghdr*)>* on_message = nullptr;
  std::exception_ptr thrown;
  bool done = false;
  int error = 0;
  std::string kernel_text;
};

int take_message(nl_msg* message, void* arg) {
  auto& answer = *static_cast<Answer*>(arg);
  try {
    if (*answer.on_message) (*answer.on_message)(nlmsg_hdr(message));
  } catch (...) {
    if (!answer.thrown) answer.thrown = std::current_exception();
  }
  return NL_OK;
}

int take_ack(nl_msg*, void* arg) {
  static_cast<Answer*>(arg)->done = true;
  return NL_STOP;
}

// The extended acknowledgement follows the request that the kernel may or may not echo in the error.
std::string extack_text(const nlmsgerr* error) {
  const auto* header = reinterpret_cast<const nlmsghdr*>(error) - 1;
  if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
  size_t offset = sizeof(nlmsghdr) + sizeof(nlmsgerr);
  if ((header->nlmsg_flags & NLM_F_CAPPED) == 0) offset += NLMSG_ALIGN(error->msg.nlmsg_len) - sizeof(nlmsghdr);
  if (offset >= header->nlmsg_len) return {};
  const auto* attributes = reinterpret_cast<const nlattr*>(reinterpret_cast<const char*>(header) + offset);
  const nlattr* text = nla_find(attributes, static_cast<int>(header->nlmsg_len - offset), NLMSGERR_ATTR_MSG);
  return text != nullptr ? static_cast<const char*>(nla_data(text)) : std::string();
}

int take_error(sockaddr_nl*, nlmsgerr* error, void* arg) {
  auto& answer = *static_cast<Answer*>(arg);
  answer.done = true;
  answer.error = -error->error;
  try {
    answer.kernel_text = extack_text(error);
  } catch (...) {
    answer.thrown = std::current_exception();
  }
  return NL_STOP;
}

int take_finish(nl_msg*, void* arg) {
  static_cast<Answer*>(arg)->done = true;
  return NL_STOP;
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

Netlink::Netlink(const std::string& netns) : socket_(nl_socket_alloc(), nl_socket_free) {
  if (!socket_) throw std::bad_alloc();
  netns::run_inside(netns, [&] {
    const int result = nl_connect(socket_.get(), NETLINK_ROUTE);
    if (result < 0) throw Error(to_errno(result), "open a netlink socket", nl_geterror(result));
  });
  const int on = 1;
  const int fd = nl_socket_get_fd(socket_.get());
  // Texts beside error numbers, without the request that failed. Older kernels have neither; no matter.
  ::setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
  ::setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
}

void Netlink::request(const Message& message, const std::string& operation,
                      const std::function<void(const nlmsghdr*)>& on_message,
                      const std::function<std::string(int)>& explain) {
  Answer answer;
  answer.on_message = &on_message;
  const std::unique_ptr<nl_cb, decltype(&nl_cb_put)> callbacks(nl_cb_alloc(NL_CB_DEFAULT), nl_cb_put);
  if (!callbacks) throw std::bad_alloc();
  nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, take_message, &answer);
  nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, take_ack, &answer);
  nl_cb_set(callbacks.get(), NL_CB_FINISH, NL_CB_CUSTOM, take_finish, &answer);
  nl_cb_err(callbacks.get(), NL_CB_CUSTOM, take_error, &answer);

  int result = nl_send_auto(socket_.get(), message.get());
  if (result < 0) throw Error(to_errno(result), operation, nl_geterror(result));
  while (!answer.done) {
    result = nl_recvmsgs(socket_.get(), callbacks.get());
    if (result < 0 && !answer.done && result != -NLE_INTR)
      throw Error(to_errno(result), operation, nl_geterror(result));
  }
  if (answer.thrown) std::rethrow_exception(answer.thrown);
  if (answer.error != 0) {
    std::string detail = answer.kernel_text.empty() ? "" : "kernel: " + answer.kernel_text;
    const std::string advice = explain ? explain(answer.error) : "";
    if (!advice.empty()) detail += (detail.empty() ? "" : "; ") + advice;
    throw Error(answer.error, operation, detail);
  }
}

}  // namespace netkit_bpf
