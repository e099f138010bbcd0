// SPDX-License-Identifier: MIT
// A stream of records as Python sees it, for events, batches and the user's own records.
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
#include "observer/lookout.hpp"
#include "observer/observers.hpp"
#include "python/events/event.hpp"
#include "python/mutex.hpp"
#include "ring/stream.hpp"

namespace netkit_bpf {

class Observer;

}  // namespace netkit_bpf

namespace netkit_bpf::python {

using Deadline = std::optional<std::chrono::steady_clock::time_point>;  // empty: never

// The deadline after a number of seconds; without a number, or after more than a year: never.
Deadline deadline_after(std::optional<double> seconds);

// A stream, the data that its records refer to, and the conversion of records to Python objects, until close();
// afterwards only the final counts. Any thread may use it, with the GIL where there is one; the GIL is released during
// waits.
class PyStream {
  struct Open;

 public:
  // For one thread at a time.
  class Descriptor {
   public:
    Descriptor(std::shared_ptr<Open> open, Fd fd) : open_(std::move(open)), fd_(std::move(fd)) {}
    [[nodiscard]] int fileno() const { return fd_.get(); }
    // Needs the GIL, because it may release the last reference to the stream.
    void close();

   private:
    std::shared_ptr<Open> open_;
    Fd fd_;
  };

  // `owner` keeps the maps of the options. `decoder` is a tuple of the names of pairs, for PacketEvents, or a callable
  // that makes an object from a record's bytes. `loss_advice` is the text of the RuntimeWarning that reading gives once
  // after a loss; empty: no warning. `observers` are those that the check of the options looks after; null: none.
  // Reading also warns of programs that hide packets from them.
  PyStream(pybind11::object owner, const StreamOptions& options, const pybind11::object& decoder,
           std::string loss_advice, std::shared_ptr<Observers> observers);
  ~PyStream();
  PyStream(const PyStream&) = delete;
  PyStream& operator=(const PyStream&) = delete;

  // Whoever takes slices holds one from before until their records are converted or given back: meanwhile no number of
  // a pair gets another name.
  class Taking {
   public:
    explicit Taking(PyStream& stream) : stream_(stream) {}
    ~Taking();
    Taking(const Taking&) = delete;
    Taking& operator=(const Taking&) = delete;

   private:
    friend PyStream;
    PyStream& stream_;
    size_t slices_ = 0;
  };

  // The next record as a new object, waiting for it. Null with no exception set on time-out and at the end.
  // `depth` is the number of Python frames between the caller's code and here, for a warning.
  PyObject* next(const Deadline& deadline, int depth);
  // The next record as a new object, if no other work is needed. Null without an exception has no meaning.
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
  // Consecutive records of one block, at most `most`; waits for the first: see Stream::take. Nothing on time-out and at
  // the end.
  std::optional<Slice> take(Taking& taking, size_t most, const Deadline& deadline, int depth = 1);
  // The same without a wait, but with a look at the rings, and without errors: they are left for the next call.
  std::optional<Slice> take_waiting(Taking& taking, size_t most) noexcept;
  // Gives back the records behind the first `taken` bytes of slice number `first`, and all later slices.
  void put_back(const std::vector<Slice>& slices, size_t first, size_t taken);
  [[nodiscard]] bool has_packet_events() const { return !decode_; }
  // The names of the pairs, by number.
  [[nodiscard]] pybind11::tuple names() const;

  // Those from now on, never fewer: of further pairs, whose records come later, and of others in place of those that
  // were released. The counts of pairs are by number: see Stream::add_groups.
  void set_names(pybind11::tuple names);
  void add_counts(int map, size_t pairs);
  // See Stream::release_group. Empty once it is closed.
  std::optional<std::vector<SourceStats>> release_pair(size_t number);
  // See Observers. Those without a result but a side effect throw a ValueError once it is closed.
  void add_observer(size_t number, std::shared_ptr<Observer> observer);
  void remove_observer(size_t number);
  std::vector<Observers::End> take_ends();
  int ends_fd();
  // The programs that hide packets: see Lookout.
  [[nodiscard]] std::vector<Lookout::Hiding> hiding() const { return lookout_.hiding(); }

  // See Stream::fileno. Throws a ValueError once it is closed.
  int fileno();
  StreamStats stats();
  // A descriptor like fileno()'s, but owned by the caller; it keeps the stream alive and stays valid, and becomes
  // readable, if the stream is closed meanwhile. Null if it is closed.
  std::unique_ptr<Descriptor> descriptor();
  // Whether a thread empties the rings; if not, a waiting reader must read some times a second.
  [[nodiscard]] bool threaded() const { return threaded_; }
  void close();

 private:
  static bool wait(std::shared_ptr<Open> open, const Deadline& deadline, bool& looked);
  std::shared_ptr<Observers> observers() const;
  std::optional<Slice> take_from(Stream& stream, Taking& taking, size_t most);
  template <typename Look>
  auto wait_for(const Deadline& deadline, int depth, const Look& look);
  bool tell_loss(int depth);
  bool tell_predecessors(int depth);
  // A packet event, or the bytes for the decoder: a copy, because the record is valid only until the next thread's
  // turn.
  PyObject* copy(const Stream::View& record) { return decode_ ? to_bytes(record) : make_event(record, names_.ptr()); }
  static PyObject* to_bytes(const Stream::View& record);
  PyObject* call_decoder(PyObject* bytes);

  pybind11::tuple names_;
  pybind11::object decode_;  // null: packet events
  mutable Mutex mutex_;
  std::shared_ptr<Open> open_;
  Stream* stream_;  // that of open_
  StreamStats final_;
  size_t slices_ = 0;  // of which somebody holds a Taking
  std::shared_ptr<Observers> observers_;
  std::vector<Observers::End> final_ends_;
  std::string loss_advice_;
  Lookout lookout_;
  const bool threaded_;
  const pid_t owner_;
};

}  // namespace netkit_bpf::python
