// SPDX-License-Identifier: MIT
// Iteration without a thread change or a pybind11 call per event, and under a GIL without a lock.
#include "python/events/stream.hpp"

#include <fcntl.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "bpf/object.hpp"
#include "observer/observer.hpp"
#include "python/bindings.hpp"
#include "python/events/batch.hpp"
#include "python/gil.hpp"
#include "ring/reader_thread.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// A long wait is cut into slices, so that Python's signal handlers run in between.
constexpr std::chrono::nanoseconds slice = 50ms;

// The thread that streams share, as long as there is one that uses it. A forked child has none of its parent's.
std::shared_ptr<ReaderThread> shared_reader() {
  static Mutex mutex;
  static std::weak_ptr<ReaderThread> shared;
  {
    const std::lock_guard lock(mutex);
    std::shared_ptr<ReaderThread> reader = shared.lock();
    if (reader && reader->is_here()) return reader;
  }
  auto reader = std::make_shared<ReaderThread>();
  const std::lock_guard lock(mutex);
  shared = reader;  // of two threads that come here at once each has one of its own: no harm
  return reader;
}

}  // namespace

Deadline deadline_after(std::optional<double> seconds) {
  // What is longer than a year would overflow in the end.
  if (!seconds || *seconds > 365.0 * 86400) return std::nullopt;
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*seconds));
}

struct PyStream::Open {
  Open(py::object owner_, const StreamOptions& options) : owner(std::move(owner_)), stream(options) {}

  py::object owner;
  Stream stream;
};

PyStream::PyStream(py::object owner, const StreamOptions& options, const py::object& decoder, std::string loss_advice)
    : open_(std::make_shared<Open>(std::move(owner), options)),
      stream_(&open_->stream),
      loss_advice_(std::move(loss_advice)),
      threaded_(options.reader != nullptr),
      owner_(::getpid()) {
  if (py::isinstance<py::tuple>(decoder))
    names_ = decoder;
  else
    decode_ = decoder;
}

PyStream::~PyStream() {
  // In a forked child the locks may be held, and the memory written, by threads that are not there: nothing of it
  // may be touched.
  if (::getpid() != owner_) new (std::nothrow) std::shared_ptr<Open>(std::move(open_));
}

PyObject* PyStream::to_bytes(const Stream::View& record) {
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(record.data.data()),
                                   static_cast<Py_ssize_t>(record.data.size()));
}

// Takes the bytes.
PyObject* PyStream::call_decoder(PyObject* bytes) {
  PyObject* object = call_python([&] { return PyObject_CallOneArg(decode_.ptr(), bytes); });
  Py_DECREF(bytes);
  return object;
}

// Waits for records, not for ever. False once the deadline has passed, and with an exception set if a signal's handler
// raised one. Whoever closes the stream meanwhile leaves what is waited on to us.
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

// Warns if it is time to. False with an exception set where warnings are errors.
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

// Waits until `look`, which has the stream to itself, finds something. Nothing on time-out and at the end.
template <typename Look>
auto PyStream::wait_for(const Deadline& deadline, int depth, const Look& look) {
  decltype(look(open_->stream)) found;
  bool looked = false;
  while (tell_loss(depth)) {
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

std::optional<Slice> PyStream::take(size_t most, const Deadline& deadline, int depth) {
  std::optional<Slice> records = wait_for(deadline, depth, [most](Stream& stream) { return stream.take(most); });
  if (!records && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return records;
}

std::optional<Slice> PyStream::take_waiting(size_t most) noexcept {
  try {
    std::shared_ptr<Open> open;
    for (const bool again : {true, false}) {
      {
        const std::lock_guard lock(mutex_);
        if (!open_) break;
        std::optional<Slice> slice = open_->stream.take(most);
        if (slice || !again) return slice;
        open = open_;
      }
      open->stream.wait(0ns);
    }
    return std::nullopt;
  } catch (...) {
    return std::nullopt;  // it is for the next who asks
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

std::unique_ptr<PyStream::Watch> PyStream::watch() {
  const std::lock_guard lock(mutex_);
  if (!open_) return nullptr;
  Fd fd(::fcntl(open_->stream.fileno(), F_DUPFD_CLOEXEC, 0));
  if (!fd) throw Error(errno, "duplicate a descriptor");
  return std::make_unique<Watch>(open_, std::move(fd));
}

void PyStream::Watch::close() {
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
  const std::lock_guard lock(mutex_);
  if (!open_) return;  // another thread was faster
  final_ = closing->stream.stats();
  stream_ = nullptr;
  open_.reset();
}

namespace {

struct EventIterator {
  PyObject ob_base;
  PyObject* owner;  // the PyStream's Python object
  PyStream* stream;
  PyObject* make_async;  // gives the asynchronous iterator over the same
  double timeout;        // seconds between events; negative: for ever
  Deadline end;
  bool is_counted;
  std::atomic<int64_t> left;  // events, if they are counted
  std::atomic<bool> ended;
};

PyTypeObject* iterator_type = nullptr;  // made once with the module, never changed

PyObject* next_event(EventIterator& iterator) {
  if (iterator.end && Clock::now() >= *iterator.end) return nullptr;
  PyObject* event = iterator.stream->next_at_hand();
  if (event != nullptr || PyErr_Occurred() != nullptr) return event;
  Deadline deadline = deadline_after(iterator.timeout < 0 ? std::nullopt : std::optional(iterator.timeout));
  if (iterator.end && (!deadline || *iterator.end < *deadline)) deadline = iterator.end;
  return iterator.stream->next(deadline, 0);
}

PyObject* iterator_next(PyObject* self) {
  auto* iterator = reinterpret_cast<EventIterator*>(self);
  if (iterator->ended.load(std::memory_order_relaxed)) return nullptr;
  PyObject* event = nullptr;
  // Several threads may share it: each takes its turn first.
  if (!iterator->is_counted || iterator->left.fetch_sub(1, std::memory_order_relaxed) > 0) {
    try {
      event = next_event(*iterator);
    } catch (...) {
      py::detail::try_translate_exceptions();
    }
    if (event == nullptr) iterator->left.fetch_add(1, std::memory_order_relaxed);
  }
  // An iterator that has ended stays ended. It keeps the stream, in which another thread may still read by it.
  if (event == nullptr && PyErr_Occurred() == nullptr) iterator->ended.store(true, std::memory_order_relaxed);
  return event;
}

void iterator_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_DECREF(reinterpret_cast<EventIterator*>(self)->owner);
  Py_DECREF(reinterpret_cast<EventIterator*>(self)->make_async);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* iterator_async(PyObject* self) {
  PyObject* const make = reinterpret_cast<EventIterator*>(self)->make_async;
  return call_python([&] { return PyObject_CallNoArgs(make); });
}

std::array<PyType_Slot, 5> iterator_slots{{
    {Py_tp_dealloc, reinterpret_cast<void*>(iterator_dealloc)},
    {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_am_aiter, reinterpret_cast<void*>(iterator_async)},
    {Py_tp_iternext, reinterpret_cast<void*>(iterator_next)},
    {},
}};

PyType_Spec iterator_spec{"netkit_bpf._core.EventIterator", sizeof(EventIterator), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, iterator_slots.data()};

using Observers = std::vector<std::shared_ptr<Observer>>;

// "shared", "own" or none.
std::shared_ptr<ReaderThread> thread_of(const std::optional<std::string>& thread) {
  if (!thread) return nullptr;
  return *thread == "shared" ? shared_reader() : std::make_shared<ReaderThread>();
}

std::unique_ptr<PyStream> make_stream(py::object owner, std::vector<int> maps, const py::object& decoder,
                                      size_t queue_size, const std::string& rings,
                                      const std::optional<std::string>& thread, int counts, size_t sources,
                                      size_t source_offset, const Observers& observers,
                                      const std::optional<std::string>& loss_advice) {
  StreamOptions options;
  options.rings = std::move(maps);
  options.ordered = rings == "ordered";
  options.queue_size = queue_size;
  options.reader = thread_of(thread);
  options.counts_map = counts;
  options.field = {sources, source_offset};
  options.check = [observers] {
    for (const auto& observer : observers) observer->check();
  };
  return std::make_unique<PyStream>(std::move(owner), options, decoder, loss_advice.value_or(""));
}

py::object read(PyStream& stream, std::optional<double> timeout) {
  PyObject* event = stream.next(deadline_after(timeout), 1);
  if (event == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return event == nullptr ? py::none() : py::reinterpret_steal<py::object>(event);
}

py::tuple by_source(const StreamStats& stats) {
  py::list sources;
  for (const SourceStats& source : stats.sources)
    sources.append(py::make_tuple(source.seen, source.delivered, source.lost, source.pending));
  return py::tuple(sources);
}

py::object make_iterator(const py::object& stream, std::optional<double> timeout, std::optional<double> duration,
                         std::optional<int64_t> count, const py::object& make_async) {
  auto* iterator = PyObject_New(EventIterator, iterator_type);
  if (iterator == nullptr) throw py::error_already_set();
  iterator->owner = Py_NewRef(stream.ptr());
  iterator->stream = stream.cast<PyStream*>();
  iterator->make_async = Py_NewRef(make_async.ptr());
  iterator->timeout = timeout.value_or(-1);
  new (&iterator->end) Deadline(deadline_after(duration));
  iterator->is_counted = count.has_value();
  new (&iterator->left) std::atomic<int64_t>(count.value_or(0));
  new (&iterator->ended) std::atomic<bool>(false);
  return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(iterator));
}

}  // namespace

void bind_stream(py::module_& module) {
  const auto type = py::reinterpret_steal<py::object>(PyType_FromSpec(&iterator_spec));
  if (!type) throw py::error_already_set();
  iterator_type = reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr());

  py::class_<PyStream::Watch>(module, "Watch")
      .def("fileno", &PyStream::Watch::fileno)
      .def("close", &PyStream::Watch::close);

  py::class_<PyStream>(module, "Stream")
      .def(py::init(&make_stream), py::arg("owner"), py::arg("maps"), py::arg("decoder"), py::kw_only(),
           py::arg("queue_size"), py::arg("rings") = "shared", py::arg("thread") = "shared", py::arg("counts") = -1,
           py::arg("sources") = 1, py::arg("source_offset") = 0, py::arg("observers") = Observers(),
           py::arg("loss_advice") = std::nullopt)
      .def("read", &read, py::arg("timeout"))
      .def("events", &make_iterator, py::arg("timeout"), py::arg("duration") = std::nullopt,
           py::arg("count") = std::nullopt, py::arg("make_async") = py::none())
      .def("fileno", &PyStream::fileno)
      .def("read_batch", &read_batch, py::arg("most"), py::arg("timeout"), py::arg("merge"), py::arg("with_data"))
      .def("stats", [](PyStream& stream) { return by_source(stream.stats()); })
      .def("limits",
           [](PyStream& stream) {
             const StreamStats stats = stream.stats();
             return py::make_tuple(stats.ring_fill, stats.queue_fill, stats.naps, stats.wakeups);
           })
      .def("watch", &PyStream::watch)
      .def_property_readonly("threaded", &PyStream::threaded)
      .def("close", &PyStream::close);
}

}  // namespace netkit_bpf::python
