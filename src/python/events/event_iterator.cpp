// SPDX-License-Identifier: MIT
// Iteration without a thread change or a pybind11 call per event, and under a GIL without a lock.
#include "python/events/event_iterator.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "python/events/stream.hpp"
#include "python/gil.hpp"
#include "python/iterator.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

using Clock = std::chrono::steady_clock;

class EventIterator {
 public:
  static constexpr const char* name = "netkit_bpf._core.EventIterator";

  EventIterator(py::object owner, PyStream& stream, py::object make_async, std::optional<double> timeout,
                const Deadline& end, std::optional<int64_t> count)
      : owner_(std::move(owner)),
        stream_(stream),
        make_async_(std::move(make_async)),
        timeout_(timeout),
        end_(end),
        is_counted_(count.has_value()),
        left_(count.value_or(0)) {}

  PyObject* next() {
    if (ended_.load(std::memory_order_relaxed)) return nullptr;
    PyObject* event = nullptr;
    // Several threads may share it: each takes its turn first.
    if (!is_counted_ || left_.fetch_sub(1, std::memory_order_relaxed) > 0) {
      try {
        event = next_event();
      } catch (...) {
        py::detail::try_translate_exceptions();
      }
      if (event == nullptr) left_.fetch_add(1, std::memory_order_relaxed);
    }
    // An iterator that has ended stays ended. It keeps the stream, in which another thread may still read by it.
    if (event == nullptr && PyErr_Occurred() == nullptr) ended_.store(true, std::memory_order_relaxed);
    return event;
  }

  PyObject* aiter() {
    return call_python([&] { return PyObject_CallNoArgs(make_async_.ptr()); });
  }

 private:
  PyObject* next_event() {
    if (end_ && Clock::now() >= *end_) return nullptr;
    PyObject* event = stream_.next_at_hand();
    if (event != nullptr || PyErr_Occurred() != nullptr) return event;
    Deadline deadline = deadline_after(timeout_);
    if (end_ && (!deadline || *end_ < *deadline)) deadline = end_;
    return stream_.next(deadline, 0);
  }

  py::object owner_;  // Python's object of the stream
  PyStream& stream_;
  py::object make_async_;          // gives the asynchronous iterator over the same
  std::optional<double> timeout_;  // seconds between events; empty: for ever
  Deadline end_;
  bool is_counted_;
  std::atomic<int64_t> left_;  // events, if they are counted
  std::atomic<bool> ended_ = false;
};

}  // namespace

py::object make_event_iterator(const py::object& stream, std::optional<double> timeout, std::optional<double> duration,
                               std::optional<int64_t> count, const py::object& make_async) {
  return Iterator<EventIterator>::make(stream, stream.cast<PyStream&>(), make_async, timeout, deadline_after(duration),
                                       count);
}

void make_event_iterator_type() { Iterator<EventIterator>::make_type(); }

}  // namespace netkit_bpf::python
