// SPDX-License-Identifier: MIT
// The error border: each C++ error becomes one Python exception, and its errno survives the crossing.
#include <exception>
#include <string>

#include "base/error.hpp"
#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// The classes are Python's own (netkit_bpf/errors.py); imported when an error is raised, not before.
void raise(Imported& type, const py::tuple& arguments) {
  PyObject* const found = type.get();
  if (found == nullptr) return;
  PyObject* const error = call_python([&] { return PyObject_CallObject(found, arguments.ptr()); });
  if (error == nullptr) return;
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error)), error);  // OSError itself picks the subclass
  Py_DECREF(error);
}

void translate(std::exception_ptr thrown) {  // NOLINT(performance-unnecessary-value-param): pybind11's signature
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const VerifierError& error) {
    static Imported type("netkit_bpf.errors", "VerifierError");
    raise(type, py::make_tuple(error.number(), to_text(error.what()), to_text(error.log)));
  } catch (const NotSupported& error) {
    static Imported type("netkit_bpf.errors", "NotSupportedError");
    raise(type, py::make_tuple(error.number(), to_text(error.what()), error.feature, error.needs, error.running));
  } catch (const Error& error) {
    static Imported type("builtins", "OSError");  // EPERM makes a PermissionError
    raise(type, py::make_tuple(error.number(), to_text(error.what())));
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
