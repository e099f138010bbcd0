// SPDX-License-Identifier: MIT
// A route netlink socket: requests and answers; a refusal is an Error with the kernel's own text.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/netns.hpp"
#include "netlink/kernel_socket.hpp"
#include "netlink/message.hpp"

namespace netkit_bpf {

struct Request {
  Message message;
  std::string operation;                            // "create nk0": leads the error's text
  std::function<void(const nlmsghdr*)> on_message;  // sees every message of the answer
  std::function<std::string(int)> explain;          // turns an errno into what to do
};

// Any thread may use it: one exchange at a time. A forked child must open its own, because answers go to the first
// reader.
class NetlinkSocket {
 public:
  // Opens it in the calling thread's namespace, or another one; it can be used from any namespace afterwards. The
  // namespace lives as long as the socket is open.
  NetlinkSocket();
  explicit NetlinkSocket(const netns::Namespace& space);

  // Sends a request and waits for its acknowledgement; throws a refusal. Callbacks must not use this socket.
  void request(Request request);

  // A request for a list (NLM_F_DUMP). `restart` is called each time before it is read: a list that changes
  // meanwhile is read again.
  void dump(Request request, const std::function<void()>& restart);

  // Sends all requests at once and waits for all acknowledgements. The kernel takes them in order and goes on
  // after a refusal; the result has an Error for each refused request. What on_message throws is rethrown at the end.
  std::vector<std::optional<Error>> exchange(std::span<Request> requests);

  // Waits until it is not in use, then closes it. Every later request throws std::invalid_argument.
  void close();

  // The number of its namespace, which no other has or will have until the machine starts anew (SO_NETNS_COOKIE).
  [[nodiscard]] uint64_t netns_cookie();

  // For tests: the n-th request from now on, counted from 1, fails with this errno, and the kernel never sees it.
  void fail_request(unsigned n, int error);

 private:
  struct Answer;
  std::vector<Answer> exchange_some(std::span<Request> requests);
  void send(std::span<Request> requests, std::vector<Answer>& answers);
  void receive(std::span<Request> requests, std::vector<Answer>& answers);
  bool fails_by_order();

  KernelSocket socket_;
  std::mutex mutex_;
  uint32_t sequence_;  // of the last request
  unsigned fail_in_ = 0;
  int fail_with_ = 0;
};

}  // namespace netkit_bpf
