// SPDX-License-Identifier: MIT
// The error border: each C++ error becomes one Python exception, and its errno survives the crossing.
#include <exception>
#include <string>

#include "base/error.hpp"
#include "python/bindings.hpp"

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
    raise("VerifierError", py::make_tuple(error.number(), to_text(error.what()), to_text(error.log)));
  } catch (const NotSupported& error) {
    raise("NotSupportedError",
          py::make_tuple(error.number(), to_text(error.what()), error.feature, error.needs, error.running));
  } catch (const Error& error) {
    // OSError itself picks the subclass: EPERM makes a PermissionError.
    const py::object built = py::reinterpret_borrow<py::object>(PyExc_OSError)(error.number(), to_text(error.what()));
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(built.ptr())), built.ptr());
  }
}

}  // namespace

py::str to_text(const std::string& raw) {
  PyObject* decoded = PyUnicode_DecodeUTF8(raw.data(), static_cast<Py_ssize_t>(raw.size()), "backslashreplace");
  if (decoded == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(decoded);
}

void bind_errors() { py::register_local_exception_translator(translate); }

}  // namespace netkit_bpf::python
