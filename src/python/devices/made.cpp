// SPDX-License-Identifier: MIT
#include "python/devices/made.hpp"

#include <unistd.h>

#include <exception>
#include <utility>

#include "python/bindings.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// Saves and restores the current exception, if any.
const void* current_frame() {
  const py::error_scope scope;
  return PyEval_GetFrame();
}

const void* caller_of_current_frame() {
  PyFrameObject* const frame = PyEval_GetFrame();
  if (frame == nullptr) return nullptr;
  const py::object caller = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(frame)).attr("f_back");
  return caller.is_none() ? nullptr : caller.ptr();
}

// pybind11 saves the exception before a destructor runs, so it is examined here.
void deallocate(PyObject* self) {
  if (PyErr_Occurred() != nullptr) {
    const py::error_scope scope;
    auto& made = py::cast<Made&>(py::handle(self));
    made.dropped_while_unwinding();
  }
  Py_TYPE(self)->tp_base->tp_dealloc(self);
}

}  // namespace

Made::Made(std::function<void()> undo) : undo_(std::move(undo)), process_(::getpid()) {}

Made::~Made() {
  if (handed_over_ || !undo_ || ::getpid() != process_) return;
  try {
    undo_();
  } catch (const std::exception&) {
    undo_ = nullptr;  // gone already, with its namespace
  }
}

void Made::hand_over() {
  callee_ = current_frame();
  caller_ = caller_of_current_frame();
  handed_over_ = true;
}

void Made::dropped_while_unwinding() {
  const void* const here = current_frame();
  if (here != nullptr && (here == callee_ || here == caller_)) handed_over_ = false;
}

void bind_made(py::module_& module) {
  py::class_<Made>(module, "Made",
                   py::custom_type_setup([](PyHeapTypeObject* type) { type->ht_type.tp_dealloc = &deallocate; }))
      .def("keep", &Made::keep);
  // Returns its argument, so that the caller needs no variable for it: a traceback would keep that alive.
  module.def(
      "hand_over",
      [](py::object object) {
        object.attr("_made").cast<Made&>().hand_over();
        return object;
      },
      py::arg("object"));
}

}  // namespace netkit_bpf::python
