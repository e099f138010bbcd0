// SPDX-License-Identifier: MIT
// A route netlink socket: requests out, answers in, the kernel's refusals as errors with its own text.
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

// Any thread may use it: one exchange at a time. A forked child must open its own, as answers go to whoever reads
// first.
class NetlinkSocket {
 public:
  // In the calling thread's namespace, or another one; it can be used from everywhere afterwards. As long as it is
  // open the namespace lives.
  NetlinkSocket();
  explicit NetlinkSocket(const netns::Namespace& space);

  // Sends a request and waits for its acknowledgement; a refusal is thrown. What is called back must not use this
  // socket.
  void request(Request request);

  // A request for a list (NLM_F_DUMP). `restart` is called each time before it is read: a list that changes
  // meanwhile is read anew.
  void dump(Request request, const std::function<void()>& restart);

  // Sends all requests at once and waits for all acknowledgements. The kernel takes them in order and goes on
  // after a refusal; the result tells for each how it was refused, if it was. What on_message throws comes through
  // in the end.
  std::vector<std::optional<Error>> exchange(std::span<Request> requests);

  // Once nobody is using it. Every request from then on throws std::invalid_argument.
  void close();

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
