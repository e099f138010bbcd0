// SPDX-License-Identifier: MIT
#include "reader.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <utility>

#include "error.hpp"

namespace netkit_bpf {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// How long to sleep at most: data committed without a wake-up is found, and check() is called, this often.
constexpr auto idle_timeout = 200ms;
// Under load the reader naps instead of asking to be woken: a wake-up costs the packet's path microseconds.
constexpr auto nap = 200us;
constexpr size_t records_that_are_load = 4;
constexpr size_t record_estimate = 80;  // bytes
// A block is at most this large: copying it holds up whoever asks for the account for about a millisecond.
constexpr size_t largest_block = 4 << 20;

timespec to_timespec(std::chrono::nanoseconds duration) {
  return {static_cast<time_t>(duration / 1s), static_cast<long>((duration % 1s).count())};
}

}  // namespace

Reader::Reader(Ring ring, size_t queue_size, std::function<void()> check)
    : ring_(std::move(ring)),
      queue_size_(queue_size),
      check_(std::move(check)),
      kick_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      owner_(::getpid()) {
  if (!kick_) throw Error(errno, "make an eventfd");
  // Signals are the application's: none is delivered to this thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([this] { run(); });
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread_.native_handle(), "netkit-reader");
}

Reader::~Reader() { close(); }

void Reader::close() {
  if (::getpid() != owner_) {
    if (thread_.joinable()) thread_.detach();
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  eventfd_write(kick_.get(), 1);
  const std::lock_guard lock(joining_);
  if (thread_.joinable()) thread_.join();
}

void Reader::finish(std::exception_ptr failure) {
  const std::lock_guard lock(mutex_);
  finished_ = true;
  failure_ = std::move(failure);
  changed_.notify_all();
}

void Reader::run() noexcept {
  try {
    read_until_stopped();
    finish(nullptr);
  } catch (...) {
    finish(std::current_exception());
  }
}

void Reader::read_until_stopped() {
  auto next_check = Clock::now() + idle_timeout;
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    if (Clock::now() >= next_check) {
      next_check = Clock::now() + idle_timeout;
      try {
        check_();
      } catch (...) {
        drain();  // what came before the end is still delivered
        throw;
      }
    }
    if (is_full()) {
      sleep(false, idle_timeout);
      continue;
    }
    const size_t drained = drain();
    if (drained == 0)
      sleep(true, idle_timeout);
    else if (drained >= records_that_are_load * record_estimate && ring_.fill() < ring_.size() / 4)
      sleep(false, nap);
  }
}

bool Reader::is_full() {
  const std::lock_guard lock(mutex_);
  return queued_ >= queue_size_;
}

size_t Reader::drain() {
  const std::lock_guard draining(draining_);
  size_t room = 0;
  {
    const std::lock_guard lock(mutex_);
    room = std::min(queue_size_ - std::min(queued_, queue_size_), largest_block);
  }
  Block block;
  const size_t drained = ring_.drain(block.run, room);
  if (drained == 0) return 0;
  block.clock_offset_ns = clock_offset_.now();
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(block));
  queued_ += drained;
  changed_.notify_one();
  return drained;
}

void Reader::sleep(bool with_ring, std::chrono::nanoseconds timeout) const {
  std::array<pollfd, 2> fds{{{kick_.get(), POLLIN, 0}, {ring_.fd(), POLLIN, 0}}};
  const timespec limit = to_timespec(timeout);
  if (::ppoll(fds.data(), with_ring ? 2 : 1, &limit, nullptr) > 0 && fds[0].revents != 0) {
    eventfd_t count = 0;
    eventfd_read(kick_.get(), &count);
  }
}

bool Reader::wait(std::optional<std::chrono::nanoseconds> timeout) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return !queue_.empty() || finished_ || stopping_; };
  if (timeout) return changed_.wait_for(lock, *timeout, ready);
  changed_.wait(lock, ready);
  return true;
}

std::optional<Block> Reader::pop() {
  std::unique_lock lock(mutex_);
  if (queue_.empty()) {
    if (finished_ && failure_) std::rethrow_exception(failure_);
    return std::nullopt;
  }
  Block block = std::move(queue_.front());
  queue_.pop_front();
  const bool was_full = queued_ >= queue_size_;
  queued_ -= block.run.size();
  lock.unlock();
  if (was_full) eventfd_write(kick_.get(), 1);
  return block;
}

bool Reader::ended() {
  const std::lock_guard lock(mutex_);
  return stopping_ || (finished_ && queue_.empty());
}

void Reader::each_pending(const std::function<void(std::span<const std::byte>)>& f) {
  const std::lock_guard draining(draining_);
  const std::lock_guard lock(mutex_);
  for (const Block& block : queue_) f(block.run);
  f(ring_.waiting());
}

}  // namespace netkit_bpf
