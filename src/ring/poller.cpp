// SPDX-License-Identifier: MIT
#include "ring/poller.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <new>
#include <utility>

#include "base/error.hpp"
#include "ring/block_queue.hpp"

namespace netkit_bpf {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// A check takes some tenths of a millisecond. After the first time it runs as soon as there is nothing else to do;
// after the second it runs in any case.
constexpr std::chrono::nanoseconds check_due = 150ms;
constexpr std::chrono::nanoseconds check_overdue = 200ms;
// This many records, each less than a nap after the one before, count as load.
constexpr size_t records_that_are_load = 4;
// Under load they gather for this long. A nap and the two changes of thread behind it take some 20 us of CPU: at
// 100,000 records a second 200 us cost twice what 400 us do, and longer naps gain little more.
constexpr std::chrono::nanoseconds longest_nap = 400us;
// A nap must not cost records. This is above what a producer fills a ring with: 10 million records of 96 bytes a
// second.
constexpr size_t bytes_per_microsecond = 800;

void watch(const Fd& epoll, int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) throw Error(errno, "watch a ring buffer");
}

}  // namespace

Poller::Poller()
    : epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      kick_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      queues_(std::make_shared<Queues>()),
      last_check_(Clock::now()) {
  if (!epoll_ || !kick_) throw Error(errno, "make an epoll instance");
  watch(epoll_, kick_.get(), EPOLLIN);
}

void Poller::add(const std::shared_ptr<BlockQueue>& queue) {
  const std::lock_guard lock(mutex_);
  auto queues = std::make_shared<Queues>(*queues_);
  queues->push_back(queue);
  const std::vector<Ring>& rings = queue->rings();
  size_t added = 0;
  const int check = queue->check_fd();
  try {
    // Edges: a ring whose queue is full stays readable, and must not wake the poller over and over.
    for (; added < rings.size(); ++added) watch(epoll_, rings[added].fd(), EPOLLIN | EPOLLET);
    if (check >= 0) watch(epoll_, check, EPOLLIN | EPOLLET);
  } catch (const Error&) {
    while (added > 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, rings[--added].fd(), nullptr);
    throw;
  }
  queues_ = std::move(queues);
  kick();
}

// Null if there is no memory for it.
std::shared_ptr<Poller::Queues> Poller::copy_of(const Queues& queues) noexcept {
  try {
    return std::make_shared<Queues>(queues);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void Poller::remove(const std::shared_ptr<BlockQueue>& queue) noexcept {
  const std::lock_guard lock(mutex_);
  for (const Ring& ring : queue->rings()) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, ring.fd(), nullptr);
  if (queue->check_fd() >= 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, queue->check_fd(), nullptr);
  kick();
  auto queues = copy_of(*queues_);
  if (!queues) return;  // it stays, which does no harm, because it is stopped
  std::erase(*queues, queue);
  queues_ = std::move(queues);
}

void Poller::kick() { eventfd_write(kick_.get(), 1); }

void Poller::turn(std::chrono::nanoseconds timeout) {
  {
    const std::lock_guard lock(mutex_);
    turning_ = queues_;
  }
  const auto start = Clock::now();
  if (start - last_check_ >= check_overdue) check();
  if (recent_ >= records_that_are_load && timeout > 0ns) {
    nap(timeout);
    recent_ = 0;
  }
  size_t drained = drain();
  if (drained == 0) {
    bool settled = true;
    for (const auto& queue : *turning_) settled = queue->settle() && settled;
    if (settled) sleep(timeout);
    if (Clock::now() - start > longest_nap) recent_ = 0;
    drained = drain();
  }
  recent_ += drained;
  turning_.reset();  // so that a queue that is removed meanwhile is freed
}

size_t Poller::drain() {
  size_t records = 0;
  for (const auto& queue : *turning_) {
    queue->drain();
    records += queue->take_progress();
  }
  return records;
}

void Poller::check() {
  for (const auto& queue : *turning_) queue->check();
  last_check_ = Clock::now();
}

void Poller::nap(std::chrono::nanoseconds timeout) {
  auto length = std::min(longest_nap, timeout);
  for (const auto& queue : *turning_) {
    if (queue->is_crowded()) return;
    for (const Ring& ring : queue->rings())
      length = std::min<std::chrono::nanoseconds>(length, 1us * (ring.size() / 4 / bytes_per_microsecond));
  }
  if (Clock::now() - last_check_ >= check_due) {
    check();  // instead
    return;
  }
  naps_.fetch_add(1, std::memory_order_relaxed);
  const timespec time{0, static_cast<long>(length.count())};
  ::nanosleep(&time, nullptr);  // a signal ends it
}

bool Poller::wants_check() const {
  return std::any_of(turning_->begin(), turning_->end(), [](const auto& queue) { return queue->wants_check(); });
}

bool Poller::is_check(int fd) const {
  return std::any_of(turning_->begin(), turning_->end(), [fd](const auto& queue) { return queue->check_fd() == fd; });
}

// While nothing happens, nothing wakes it.
void Poller::sleep(std::chrono::nanoseconds timeout) {
  if (wants_check()) timeout = std::min<std::chrono::nanoseconds>(timeout, last_check_ + check_due - Clock::now());
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
  std::array<epoll_event, 16> events{};
  const int ready = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                 static_cast<int>(std::max<int64_t>(milliseconds, 0)));
  bool must_check = ready == 0 && wants_check() && Clock::now() - last_check_ >= check_due;
  for (int i = 0; i < ready; ++i) {
    const int fd = events.at(static_cast<size_t>(i)).data.fd;
    if (fd == kick_.get()) {
      eventfd_t count = 0;
      eventfd_read(kick_.get(), &count);
    } else if (is_check(fd)) {
      must_check = true;
    } else {
      wakeups_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  if (must_check) check();
}

}  // namespace netkit_bpf
