// SPDX-License-Identifier: MIT
#include "netlink/socket.hpp"

#include <linux/netlink.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <stdexcept>

#include "netlink/attributes.hpp"

namespace netkit_bpf {

namespace {

// The kernel answers while it takes the requests. This many answers fit a receive buffer of the size that any user may
// have, including echoes of new devices, which take up to 10 KiB each.
constexpr size_t most_at_once = 32;
constexpr int most_restarts = 100;

KernelSocket open_socket() {
  KernelSocket socket("open a netlink socket");
  const int on = 1;
  // Texts beside error numbers, without the request that failed; lists of what was asked for only.
  for (const int option : {NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK})
    ::setsockopt(socket.fd(), SOL_NETLINK, option, &on, sizeof(on));
  return socket;
}

// An unpredictable first number.
uint32_t first_sequence() {
  uint32_t number = 0;
  if (::getrandom(&number, sizeof(number), 0) != sizeof(number)) throw Error(errno, "take a random number");
  return number;
}

// Behind an error or the end of a list, which take `size` bytes.
std::string extack_text(const nlmsghdr* header, size_t size) {
  const size_t offset = sizeof(nlmsghdr) + NLMSG_ALIGN(size);
  if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0 || offset >= header->nlmsg_len) return {};
  const auto* first = reinterpret_cast<const nlattr*>(reinterpret_cast<const char*>(header) + offset);
  return Attributes(first, header->nlmsg_len - offset, NLMSGERR_ATTR_MSG).text(NLMSGERR_ATTR_MSG);
}

// The extended acknowledgement follows the request, which the kernel may echo in the error.
std::string extack_text(const nlmsghdr* header, const nlmsgerr& error) {
  const size_t echoed = (header->nlmsg_flags & NLM_F_CAPPED) == 0 ? error.msg.nlmsg_len : sizeof(nlmsghdr);
  return extack_text(header, sizeof(error.error) + echoed);
}

Error refusal(const Request& request, int error, const std::string& kernel_text) {
  std::string detail = kernel_text.empty() ? "" : "kernel: " + kernel_text;
  const std::string advice = request.explain ? request.explain(error) : "";
  if (!advice.empty()) detail += (detail.empty() ? "" : "; ") + advice;
  return {error, request.operation, detail};
}

}  // namespace

struct NetlinkSocket::Answer {
  uint32_t sequence = 0;
  bool done = false;
  bool interrupted = false;  // a list that changed while it was read
  std::optional<Error> error;
  std::exception_ptr thrown;

  void take(const Request& request, const nlmsghdr* header) {
    interrupted = interrupted || (header->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
    if (header->nlmsg_type == NLMSG_ERROR) {
      const auto& refused = fixed_header<nlmsgerr>(header);
      done = true;
      if (refused.error != 0) error = refusal(request, -refused.error, extack_text(header, refused));
    } else if (header->nlmsg_type == NLMSG_DONE) {  // the end of a list, with an errno if it was cut short
      const int result = fixed_header<int>(header);
      done = true;
      if (result < 0) error = refusal(request, -result, extack_text(header, sizeof(result)));
    } else if (header->nlmsg_type == NLMSG_OVERRUN) {
      done = true;
      error = refusal(request, ENOBUFS, "");
    } else if (header->nlmsg_type >= NLMSG_MIN_TYPE && request.on_message && !thrown) {
      try {
        request.on_message(header);
      } catch (...) {
        thrown = std::current_exception();  // once all answers are read
      }
    }
  }
};

NetlinkSocket::NetlinkSocket() : socket_(open_socket()), sequence_(first_sequence()) {}

NetlinkSocket::NetlinkSocket(const netns::Namespace& space) : sequence_(first_sequence()) {
  netns::run_inside(space, [&] { socket_ = open_socket(); });
}

void NetlinkSocket::request(Request request) {
  const auto refused = exchange({&request, 1});
  if (refused.front()) throw Error(*refused.front());
}

void NetlinkSocket::dump(Request request, const std::function<void()>& restart) {
  for (int i = 0; i < most_restarts; ++i) {
    restart();
    const std::lock_guard lock(mutex_);
    const Answer answer = std::move(exchange_some({&request, 1}).front());
    if (answer.error) throw Error(*answer.error);
    if (!answer.interrupted) return;
  }
  throw Error(EBUSY, request.operation, "the list keeps changing");
}

std::vector<std::optional<Error>> NetlinkSocket::exchange(std::span<Request> requests) {
  std::vector<std::optional<Error>> refused;
  const std::lock_guard lock(mutex_);
  while (!requests.empty()) {
    const auto some = requests.first(std::min(requests.size(), most_at_once));
    for (Answer& answer : exchange_some(some)) refused.push_back(std::move(answer.error));
    requests = requests.subspan(some.size());
  }
  return refused;
}

std::vector<NetlinkSocket::Answer> NetlinkSocket::exchange_some(std::span<Request> requests) {
  std::vector<Answer> answers(requests.size());
  send(requests, answers);
  receive(requests, answers);
  for (const Answer& answer : answers) {
    if (answer.thrown) std::rethrow_exception(answer.thrown);
  }
  return answers;
}

void NetlinkSocket::send(std::span<Request> requests, std::vector<Answer>& answers) {
  if (!socket_) throw std::invalid_argument("this network namespace is deleted, or was released");
  std::vector<iovec> pieces;
  for (size_t i = 0; i < requests.size(); ++i) {
    nlmsghdr* header = nlmsg_hdr(requests[i].message.get());
    header->nlmsg_seq = answers[i].sequence = ++sequence_;
    header->nlmsg_flags |= NLM_F_ACK;
    if (fails_by_order()) {
      answers[i].done = true;
      answers[i].error = Error(fail_with_, requests[i].operation, "requested by a test");
    } else {
      pieces.push_back({header, NLMSG_ALIGN(header->nlmsg_len)});
    }
  }
  if (pieces.empty()) return;
  msghdr all{};
  all.msg_iov = pieces.data();
  all.msg_iovlen = pieces.size();
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket_.fd(), &all, 0);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) throw Error(errno, requests.front().operation, "sending the request");
}

void NetlinkSocket::receive(std::span<Request> requests, std::vector<Answer>& answers) {
  const auto is_done = [](const Answer& answer) { return answer.done; };
  const auto take = [&](const nlmsghdr* header, std::optional<int>) {
    if (header->nlmsg_pid != socket_.port()) return;
    // Answers with another number belong to a request that was given up.
    const size_t place = header->nlmsg_seq - answers.front().sequence;
    if (place < answers.size()) answers[place].take(requests[place], header);
  };
  while (!std::all_of(answers.begin(), answers.end(), is_done)) {
    // The lock is held on purpose: an answer belongs to the thread that asked.
    // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection)
    const int error = socket_.read(take);
    if (error != 0) throw Error(error, requests.front().operation, "receiving the kernel's answer");
  }
}

void NetlinkSocket::close() {
  const std::lock_guard lock(mutex_);
  socket_ = {};
}

uint64_t NetlinkSocket::netns_cookie() {
  const std::lock_guard lock(mutex_);
  if (!socket_) throw std::invalid_argument("this network namespace is deleted");
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (::getsockopt(socket_.fd(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0)
    throw Error(errno, "look up the cookie of a network namespace");
  return cookie;
}

void NetlinkSocket::fail_request(unsigned n, int error) {
  const std::lock_guard lock(mutex_);
  fail_in_ = n;
  fail_with_ = error;
}

bool NetlinkSocket::fails_by_order() {
  if (fail_in_ == 0) return false;
  --fail_in_;
  return fail_in_ == 0;
}

}  // namespace netkit_bpf
