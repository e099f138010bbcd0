// SPDX-License-Identifier: MIT
// The stream of events: iteration without a lock, a thread change or a pybind11 call per event.
#include "../stream.hpp"

#include <cxxabi.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "../attachment.hpp"
#include "../object.hpp"
#include "bindings.hpp"
#include "event.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;

// A long wait is cut into slices, so that Python's signal handlers run in between.
constexpr std::chrono::nanoseconds slice = 50ms;

Deadline deadline_after(std::optional<double> seconds) {
  // What is longer than a year is for ever, and does not overflow.
  if (!seconds || *seconds > 365.0 * 86400) return std::nullopt;
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*seconds));
}

// An event stream with what its events refer to, until close(); afterwards only its final account.
class PyStream {
 public:
  PyStream(const std::shared_ptr<Object>& object, size_t ring_size, size_t queue_size, const py::tuple& names,
           const std::vector<std::shared_ptr<Attachment>>& attachments)
      : names_(names), open_(std::make_shared<Open>(object, ring_size, queue_size, attachments)) {}

  // The next event, waiting for it; null with no exception set on time-out and at the end.
  PyObject* next(const Deadline& deadline) {
    while (open_) {
      if (const std::optional<Stream::Event> event = open_->stream.next()) {
        PyObject* name = PyTuple_GetItem(names_.ptr(), event->record->pair);
        return name == nullptr ? nullptr : make_event(*event->record, event->clock_offset_ns, name);
      }
      if (open_->stream.ended()) return nullptr;
      auto timeout = slice;
      if (deadline) timeout = std::min(timeout, std::chrono::nanoseconds(*deadline - Clock::now()));
      if (timeout <= 0ns) return nullptr;
      // wait() touches nothing of Python. By hand: a thread that the interpreter's exit ends in here is
      // unwound by force, which the noexcept destructor of gil_scoped_release would turn into an abort.
      const std::shared_ptr<Open> waiting = open_;  // whoever closes meanwhile leaves it to us
      PyThreadState* const thread = PyEval_SaveThread();
      waiting->stream.wait(timeout);
      PyEval_RestoreThread(thread);
      if (PyErr_CheckSignals() != 0) return nullptr;
    }
    return nullptr;
  }

  py::object read(std::optional<double> timeout) {
    PyObject* event = next(deadline_after(timeout));
    if (event == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
    return event == nullptr ? py::none() : py::reinterpret_steal<py::object>(event);
  }

  py::tuple stats() {
    const Stats stats = open_ ? open_->stream.stats() : final_;
    py::list sides;
    for (const SideStats& side : stats)
      sides.append(py::make_tuple(side.seen, side.delivered, side.lost, side.pending));
    return py::tuple(sides);
  }

  void close() {
    const std::shared_ptr<Open> closing = open_;
    if (!closing) return;
    {
      const py::gil_scoped_release release;  // joins the reader's thread, which never takes the GIL
      closing->stream.close();
    }
    if (!open_) return;  // another thread was faster
    final_ = closing->stream.stats();
    open_.reset();
  }

 private:
  struct Open {
    Open(const std::shared_ptr<Object>& object_, size_t ring_size, size_t queue_size,
         const std::vector<std::shared_ptr<Attachment>>& attachments)
        : object(object_), stream(object->map("events"), ring_size, queue_size, object->map("counts"), [attachments] {
            for (const auto& attachment : attachments) attachment->check();
          }) {}

    std::shared_ptr<Object> object;  // holds the maps that the stream reads
    Stream stream;
  };

  py::tuple names_;
  std::shared_ptr<Open> open_;
  Stats final_{};
};

struct EventIterator {
  PyObject ob_base;
  PyObject* owner;  // the PyStream's Python object
  PyStream* stream;
  double timeout;  // seconds between events; negative: for ever
};

PyTypeObject* iterator_type = nullptr;  // made once with the module, never changed

PyObject* iterator_next(PyObject* self) {
  auto* iterator = reinterpret_cast<EventIterator*>(self);
  if (iterator->stream == nullptr) return nullptr;
  PyObject* event = nullptr;
  try {
    event =
        iterator->stream->next(deadline_after(iterator->timeout < 0 ? std::nullopt : std::optional(iterator->timeout)));
  } catch (abi::__forced_unwind&) {
    throw;  // the interpreter's exit ends this thread
  } catch (...) {
    py::detail::try_translate_exceptions();
  }
  // An iterator that has ended stays ended.
  if (event == nullptr && PyErr_Occurred() == nullptr) {
    iterator->stream = nullptr;
    Py_CLEAR(iterator->owner);
  }
  return event;
}

void iterator_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_XDECREF(reinterpret_cast<EventIterator*>(self)->owner);
  type->tp_free(self);
  Py_DECREF(type);
}

std::array<PyType_Slot, 4> iterator_slots{{
    {Py_tp_dealloc, reinterpret_cast<void*>(iterator_dealloc)},
    {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_tp_iternext, reinterpret_cast<void*>(iterator_next)},
    {},
}};

PyType_Spec iterator_spec{"netkit_bpf._core.EventIterator", sizeof(EventIterator), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, iterator_slots.data()};

py::object make_iterator(const py::object& stream, std::optional<double> timeout) {
  auto* iterator = PyObject_New(EventIterator, iterator_type);
  if (iterator == nullptr) throw py::error_already_set();
  iterator->owner = Py_NewRef(stream.ptr());
  iterator->stream = stream.cast<PyStream*>();
  iterator->timeout = timeout.value_or(-1);
  return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(iterator));
}

}  // namespace

void bind_stream(py::module_& module) {
  const auto type = py::reinterpret_steal<py::object>(PyType_FromSpec(&iterator_spec));
  if (!type) throw py::error_already_set();
  iterator_type = reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr());

  py::class_<PyStream>(module, "Stream")
      .def(py::init<const std::shared_ptr<Object>&, size_t, size_t, const py::tuple&,
                    const std::vector<std::shared_ptr<Attachment>>&>(),
           py::arg("object"), py::arg("ring_size"), py::arg("queue_size"), py::arg("names"), py::arg("attachments"))
      .def("read", &PyStream::read, py::arg("timeout"))
      .def("events", &make_iterator, py::arg("timeout"))
      .def("stats", &PyStream::stats)
      .def("close", &PyStream::close);
}

}  // namespace netkit_bpf::python
