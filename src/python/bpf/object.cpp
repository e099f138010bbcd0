// SPDX-License-Identifier: MIT
#include "bpf/object.hpp"

#include <pybind11/stl.h>

#include <memory>

#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// Passes libbpf's messages to Python's logging, so that the application decides what to do with them.
void log_messages(Object& object) {
  const std::string messages = object.take_messages();
  if (messages.empty()) return;
  static Imported get_logger("logging", "getLogger");
  PyObject* const found = get_logger.get();
  if (found == nullptr) throw py::error_already_set();
  const auto logger = py::reinterpret_steal<py::object>(
      call_python([&] { return PyObject_CallFunction(found, "s", "netkit_bpf.libbpf"); }));
  if (!logger) throw py::error_already_set();
  const py::str text = to_text(messages);
  const auto done = py::reinterpret_steal<py::object>(
      call_python([&] { return PyObject_CallMethod(logger.ptr(), "warning", "sO", "%s", text.ptr()); }));
  if (!done) throw py::error_already_set();
}

py::list programs(const Object& object) {
  py::list found;
  for (const ProgramSpec& program : object.programs())
    found.append(py::make_tuple(program.name, to_text(program.section), program.type, program.autoload));
  return found;
}

py::list maps(const Object& object) {
  py::list found;
  for (const MapSpec& map : object.maps())
    found.append(py::make_tuple(map.name, to_tuple(map.info), map.pin_path, map.autocreate));
  return found;
}

py::list variables(const Object& object) {
  py::list found;
  for (const Variable& variable : object.variables())
    found.append(
        py::make_tuple(variable.name, to_text(variable.section), variable.type, variable.size, variable.is_constant));
  return found;
}

}  // namespace

void bind_object(py::module_& module) {
  py::class_<Object, std::shared_ptr<Object>>(module, "Object")
      .def(py::init([](const py::bytes& image, const std::string& name, const std::string& pin_root) {
             auto object = std::make_shared<Object>(view(image), name, pin_root);
             log_messages(*object);
             return object;
           }),
           py::arg("image"), py::arg("name"), py::arg("pin_root") = "")
      .def("programs", &programs)
      .def("maps", &maps)
      .def("variables", &variables)
      .def("types", &Object::types)
      .def("set_max_entries", &Object::set_max_entries, py::arg("map"), py::arg("entries"))
      .def("set_value_size", &Object::set_value_size, py::arg("map"), py::arg("size"))
      .def("reuse_map", &Object::reuse_map, py::arg("map"), py::arg("fd"))
      .def("set_autoload", &Object::set_autoload, py::arg("program"), py::arg("autoload"))
      .def("set_autocreate", &Object::set_autocreate, py::arg("map"), py::arg("autocreate"))
      .def(
          "variable",
          [](const Object& object, const std::string& name) {
            const Variable& variable = object.variable(name);
            return py::make_tuple(variable.section, variable.offset, variable.size);
          },
          py::arg("name"))
      .def(
          "read_variable", [](const Object& object, size_t index) { return to_bytes(object.read_variable(index)); },
          py::arg("index"))
      .def(
          "write_variable",
          [](Object& object, size_t index, const py::bytes& value) { object.write_variable(index, view(value)); },
          py::arg("index"), py::arg("value"))
      .def("load",
           [](Object& object) {
             {
               const WithoutGil release;  // uses nothing of Python
               object.load();
             }
             log_messages(object);
           })
      .def("has_failed", &Object::has_failed)
      .def(
          "open_program",
          [](const Object& object, const std::string& name) {
            return std::make_shared<Program>(object.open_program(name));
          },
          py::arg("name"))
      .def(
          "open_map",
          [](const Object& object, const std::string& name) { return std::make_shared<Map>(object.open_map(name)); },
          py::arg("name"))
      .def("program", &Object::program, py::arg("name"))
      .def("map", &Object::map, py::arg("name"))
      .def(
          "set_variable",
          [](Object& object, const std::string& name, const py::bytes& value) {
            object.write_variable(object.variable_index(name), view(value));
          },
          py::arg("name"), py::arg("value"))
      .def(
          "test_run",
          [](const Object& object, const std::string& program, const py::bytes& packet, uint32_t repeat) {
            TestRun run;
            {
              const auto data = view(packet);  // held by the caller and immutable
              const WithoutGil release;
              run = object.test_run(program, data, repeat);
            }
            return py::make_tuple(static_cast<int32_t>(run.retval), to_bytes(run.data), run.duration_ns);
          },
          py::arg("program"), py::arg("packet"), py::arg("repeat") = 1);
}

}  // namespace netkit_bpf::python
