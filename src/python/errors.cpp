// SPDX-License-Identifier: MIT
// The error border: each C++ error becomes one Python exception, and its errno survives the crossing.
#include <exception>

#include "../error.hpp"
#include "bindings.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// The classes are Python's own (netkit_bpf/errors.py); imported when an error is raised, not before.
void raise(const char* name, const py::args& arguments) {
  const py::object type = py::module_::import("netkit_bpf.errors").attr(name);
  const py::object error = type(*arguments);
  PyErr_SetObject(type.ptr(), error.ptr());
}

void translate(std::exception_ptr thrown) {  // NOLINT(performance-unnecessary-value-param): pybind11's signature
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const VerifierError& error) {
    raise("VerifierError", py::make_tuple(error.number(), error.what(), error.log));
  } catch (const NotSupported& error) {
    raise("NotSupportedError", py::make_tuple(error.number(), error.what(), error.feature, error.needs, error.running));
  } catch (const Error& error) {
    // OSError itself picks the subclass: EPERM makes a PermissionError.
    const py::object built = py::reinterpret_borrow<py::object>(PyExc_OSError)(error.number(), error.what());
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(built.ptr())), built.ptr());
  }
}

}  // namespace

void bind_errors() { py::register_local_exception_translator(translate); }

}  // namespace netkit_bpf::python
