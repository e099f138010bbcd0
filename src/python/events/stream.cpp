// SPDX-License-Identifier: MIT
#include "python/events/stream.hpp"

#include <fcntl.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "observer/observer.hpp"
#include "python/events/event.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// A long wait is cut into slices, so that Python's signal handlers run in between.
constexpr std::chrono::nanoseconds slice = 50ms;

}  // namespace

Deadline deadline_after(std::optional<double> seconds) {
  // More than a year counts as never, and cannot overflow.
  if (!seconds || *seconds > 365.0 * 86400) return std::nullopt;
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*seconds));
}

struct PyStream::Open {
  Open(py::object owner_, const StreamOptions& options) : owner(std::move(owner_)), stream(options) {}

  py::object owner;
  Stream stream;
};

PyStream::PyStream(py::object owner, const StreamOptions& options, const py::object& decoder, std::string loss_advice,
                   std::shared_ptr<Observers> observers)
    : open_(std::make_shared<Open>(std::move(owner), options)),
      stream_(&open_->stream),
      observers_(std::move(observers)),
      loss_advice_(std::move(loss_advice)),
      threaded_(options.reader != nullptr),
      owner_(::getpid()) {
  if (py::isinstance<py::tuple>(decoder))
    names_ = decoder;
  else
    decode_ = decoder;
}

PyStream::~PyStream() {
  // In a forked child, threads that no longer exist may have held the locks and been writing the memory: do not touch
  // any of it.
  if (::getpid() == owner_) return;
  new (std::nothrow) std::shared_ptr<Open>(std::move(open_));
  new (std::nothrow) std::shared_ptr<Observers>(std::move(observers_));
}

py::tuple PyStream::names() const {
  const std::lock_guard lock(mutex_);
  return names_;
}

void PyStream::set_names(py::tuple names) {
  py::tuple old;  // let go of without the lock
  const std::lock_guard lock(mutex_);
  if (!open_) throw py::value_error("the stream is closed");
  if (names.size() < names_.size()) throw py::value_error("there are fewer names than before");
  open_->stream.set_groups(names.size());
  old = std::exchange(names_, std::move(names));
}

std::optional<std::vector<SourceStats>> PyStream::release_pair(size_t number) {
  const std::lock_guard lock(mutex_);
  if (!open_ || slices_ > 0) return std::nullopt;
  return open_->stream.release_group(number);
}

PyStream::Taking::~Taking() {
  const std::lock_guard lock(stream_.mutex_);
  stream_.slices_ -= slices_;
}

// With the lock held.
std::optional<Slice> PyStream::take_from(Stream& stream, Taking& taking, size_t most) {
  std::optional<Slice> slice = stream.take(most);
  if (slice) {
    ++taking.slices_;
    ++slices_;
  }
  return slice;
}

void PyStream::add_counts(int map, size_t pairs) {
  const std::lock_guard lock(mutex_);
  if (!open_) throw py::value_error("the stream is closed");
  open_->stream.add_groups(duplicate(map), pairs);
}

std::shared_ptr<Observers> PyStream::observers() const {
  const std::lock_guard lock(mutex_);
  if (!observers_) throw py::value_error("the stream is closed");
  return observers_;
}

void PyStream::add_observer(size_t number, std::shared_ptr<Observer> observer) {
  const auto held = observers();
  const WithoutGil release;  // looks at the hooks
  held->add(number, std::move(observer));
}

void PyStream::remove_observer(size_t number) {
  const auto held = observers();
  const WithoutGil release;
  held->remove(number);
}

std::vector<Observers::End> PyStream::take_ends() {
  std::shared_ptr<Observers> held;
  {
    const std::lock_guard lock(mutex_);
    if (!observers_) return std::exchange(final_ends_, {});
    held = observers_;
  }
  const WithoutGil release;  // a check may be under way
  return held->take_ends();
}

int PyStream::ends_fd() {
  const auto held = observers();
  const WithoutGil release;
  return held->ends_fd();
}

PyObject* PyStream::to_bytes(const Stream::View& record) {
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(record.data.data()),
                                   static_cast<Py_ssize_t>(record.data.size()));
}

// Steals the reference to the bytes.
PyObject* PyStream::call_decoder(PyObject* bytes) {
  PyObject* object = call_python([&] { return PyObject_CallOneArg(decode_.ptr(), bytes); });
  Py_DECREF(bytes);
  return object;
}

// Waits for records, for a limited time. False once the deadline has passed, or with an exception set if a signal
// handler raised one. If the stream is closed meanwhile, this call keeps what it waits on alive.
bool PyStream::wait(std::shared_ptr<Open> open, const Deadline& deadline, bool& looked) {
  const std::shared_ptr<Open> waiting = std::move(open);
  auto timeout = slice;
  if (deadline) timeout = std::clamp(std::chrono::nanoseconds(*deadline - Clock::now()), 0ns, slice);
  if (timeout == 0ns && std::exchange(looked, true)) return false;
  {
    const WithoutGil release;
    waiting->stream.wait(timeout);
  }
  return call_python(PyErr_CheckSignals) == 0;
}

// Warns of lost records if it is time to. False with an exception set if warnings are errors.
bool PyStream::tell_loss(int depth) {
  std::string advice;
  {
    const std::lock_guard lock(mutex_);
    if (stream_ == nullptr || !stream_->has_lost()) return true;
    advice = std::exchange(loss_advice_, {});
  }
  if (advice.empty()) return true;
  return call_python([&] { return PyErr_WarnEx(PyExc_RuntimeWarning, advice.c_str(), depth + 1); }) == 0;
}

// Warns of programs that hide packets from the observers if it is time to look for them. False with an exception set if
// warnings are errors.
bool PyStream::tell_predecessors(int depth) {
  if (!lookout_.is_due()) return true;
  std::shared_ptr<Observers> held;
  {
    const std::lock_guard lock(mutex_);
    held = observers_;
  }
  if (!held) return true;
  std::optional<Lookout::Found> found;
  {
    const WithoutGil release;
    found = lookout_.look(held->watching());
  }
  if (!found) return true;
  if (found->programs.empty()) {  // the counts of a thousand pairs are not read for nothing
    lookout_.judge(*found, {});
    return true;
  }
  const StreamStats now = stats();
  const size_t at = 2 * found->who.number;  // of the pair's own counts, if each pair has them
  const auto& counts = now.groups.empty() ? now.sources : now.groups;
  const size_t first = now.groups.empty() ? 0 : at;
  if (now.sources.size() != 2 || counts.size() < first + 2) return true;
  const std::string warning = lookout_.judge(*found, {counts[first].seen, counts[first + 1].seen});
  if (warning.empty()) return true;
  return call_python([&] { return PyErr_WarnEx(PyExc_RuntimeWarning, warning.c_str(), depth + 1); }) == 0;
}

// Waits until `look`, which has exclusive access to the stream, finds something. Nothing on time-out and at the end.
template <typename Look>
auto PyStream::wait_for(const Deadline& deadline, int depth, const Look& look) {
  decltype(look(open_->stream)) found;
  bool looked = false;
  while (tell_loss(depth) && tell_predecessors(depth)) {
    std::shared_ptr<Open> open;
    {
      const std::lock_guard lock(mutex_);
      if (!open_) break;
      found = look(open_->stream);
      if (found || open_->stream.ended()) break;
      open = open_;
    }
    if (!wait(std::move(open), deadline, looked)) break;
  }
  return found;
}

PyObject* PyStream::next(const Deadline& deadline, int depth) {
  const std::optional<PyObject*> copied = wait_for(deadline, depth, [this](Stream& stream) {
    const std::optional<Stream::View> record = stream.next();
    return record ? std::optional(copy(*record)) : std::nullopt;
  });
  if (!copied || *copied == nullptr) return nullptr;
  return decode_ ? call_decoder(*copied) : *copied;
}

std::optional<Slice> PyStream::take(Taking& taking, size_t most, const Deadline& deadline, int depth) {
  std::optional<Slice> records =
      wait_for(deadline, depth, [&](Stream& stream) { return take_from(stream, taking, most); });
  if (!records && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return records;
}

std::optional<Slice> PyStream::take_waiting(Taking& taking, size_t most) noexcept {
  try {
    std::shared_ptr<Open> open;
    for (const bool again : {true, false}) {
      {
        const std::lock_guard lock(mutex_);
        if (!open_) break;
        std::optional<Slice> slice = take_from(open_->stream, taking, most);
        if (slice || !again) return slice;
        open = open_;
      }
      open->stream.wait(0ns);
    }
    return std::nullopt;
  } catch (...) {
    return std::nullopt;  // left for the next reader
  }
}

void PyStream::put_back(const std::vector<Slice>& slices, size_t first, size_t taken) {
  const std::lock_guard lock(mutex_);
  if (!open_) return;
  for (size_t i = slices.size(); i > first; --i) open_->stream.put_back(slices[i - 1], i - 1 == first ? taken : 0);
}

int PyStream::fileno() {
  const std::lock_guard lock(mutex_);
  if (!open_) throw py::value_error("the stream is closed");
  return open_->stream.fileno();
}

StreamStats PyStream::stats() {
  const std::lock_guard lock(mutex_);
  return open_ ? open_->stream.stats() : final_;
}

std::unique_ptr<PyStream::Descriptor> PyStream::descriptor() {
  const std::lock_guard lock(mutex_);
  if (!open_) return nullptr;
  Fd fd(::fcntl(open_->stream.fileno(), F_DUPFD_CLOEXEC, 0));
  if (!fd) throw Error(errno, "duplicate a descriptor");
  return std::make_unique<Descriptor>(open_, std::move(fd));
}

void PyStream::Descriptor::close() {
  fd_ = {};
  open_.reset();
}

void PyStream::close() {
  std::shared_ptr<Open> closing;
  {
    const std::lock_guard lock(mutex_);
    closing = open_;
  }
  if (!closing) return;
  {
    const WithoutGil release;  // waits for the reader's thread, which never takes the GIL
    closing->stream.close();
  }
  std::vector<Observers::End> ended = take_ends();
  std::shared_ptr<Observers> unused;
  const std::lock_guard lock(mutex_);
  if (!open_) return;  // another thread was faster
  final_ = closing->stream.stats();
  final_ends_ = std::move(ended);
  unused = std::move(observers_);
  stream_ = nullptr;
  open_.reset();
}

}  // namespace netkit_bpf::python
