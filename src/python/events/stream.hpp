// SPDX-License-Identifier: MIT
// A stream of records as Python sees it, for all that is read from one: events, batches, records of the user's own.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "python/events/event.hpp"
#include "python/mutex.hpp"
#include "ring/stream.hpp"

namespace netkit_bpf::python {

using Deadline = std::optional<std::chrono::steady_clock::time_point>;  // empty: never

// From a number of seconds that the caller gave; none, and more than a year, is never.
Deadline deadline_after(std::optional<double> seconds);

// A stream, what its records refer to, and how a record becomes a Python object, until close(); afterwards only its
// final account. Any thread may use it, with the GIL where there is one, which is released while it waits.
class PyStream {
  struct Open;

 public:
  // For one thread at a time.
  class Watch {
   public:
    Watch(std::shared_ptr<Open> open, Fd fd) : open_(std::move(open)), fd_(std::move(fd)) {}
    [[nodiscard]] int fileno() const { return fd_.get(); }
    // With the GIL, as it may let go of the last reference to the stream.
    void close();

   private:
    std::shared_ptr<Open> open_;
    Fd fd_;
  };

  // `owner` keeps the maps of the options. `decoder` is a tuple of names for PacketEvents, one a pair, or a callable
  // that makes an object of a record's bytes. `loss_advice` is the text of the RuntimeWarning that reading gives, once,
  // when records were lost; empty: none is given.
  PyStream(pybind11::object owner, const StreamOptions& options, const pybind11::object& decoder,
           std::string loss_advice);
  ~PyStream();
  PyStream(const PyStream&) = delete;
  PyStream& operator=(const PyStream&) = delete;

  // The next record as a new object, waiting for it. Null with no exception set on time-out and at the end.
  // `depth` is how many of Python's frames lie between the caller's own code and here, for a warning.
  PyObject* next(const Deadline& deadline, int depth);
  // The next record as a new object if that takes no more than to make it. Null with no exception set says nothing.
  PyObject* next_at_hand() {
    PyObject* copied = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (stream_ == nullptr || (stream_->has_lost() && !loss_advice_.empty())) return nullptr;
      const std::optional<Stream::View> record = stream_->next();
      if (record) copied = copy(*record);
    }
    return decode_ && copied != nullptr ? call_decoder(copied) : copied;
  }
  // Consecutive records of one block, at most `most`, waiting for the first: see Stream::take. Nothing on time-out and
  // at the end.
  std::optional<Slice> take(size_t most, const Deadline& deadline, int depth = 1);
  // The same without a wait, though the rings are looked at, and without an error: that is for the next who asks.
  std::optional<Slice> take_waiting(size_t most) noexcept;
  // Gives back what is behind the first `taken` bytes of slice number `first`, and all slices behind that one.
  void put_back(const std::vector<Slice>& slices, size_t first, size_t taken);
  // The names of the pairs; empty if records are not packet events.
  [[nodiscard]] const pybind11::tuple& names() const { return names_; }

  // See Stream::fileno. Throws a ValueError once it is closed.
  int fileno();
  StreamStats stats();
  // A descriptor like fileno()'s of the caller's own, which keeps the stream: it stays valid, and readable, when the
  // stream is closed meanwhile. None if it is closed.
  std::unique_ptr<Watch> watch();
  // Whether a thread looks after the rings; else it is for whoever waits to read some times a second.
  [[nodiscard]] bool threaded() const { return threaded_; }
  void close();

 private:
  static bool wait(std::shared_ptr<Open> open, const Deadline& deadline, bool& looked);
  template <typename Look>
  auto wait_for(const Deadline& deadline, int depth, const Look& look);
  bool tell_loss(int depth);
  // A packet event, or the bytes for the decoder: the record is the stream's, and the next thread's turn ends it.
  PyObject* copy(const Stream::View& record) { return decode_ ? to_bytes(record) : make_event(record, names_.ptr()); }
  static PyObject* to_bytes(const Stream::View& record);
  PyObject* call_decoder(PyObject* bytes);

  pybind11::tuple names_;
  pybind11::object decode_;  // null: packet events
  Mutex mutex_;
  std::shared_ptr<Open> open_;
  Stream* stream_;  // that of open_
  StreamStats final_;
  std::string loss_advice_;
  const bool threaded_;
  const pid_t owner_;
};

}  // namespace netkit_bpf::python
