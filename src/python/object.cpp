// SPDX-License-Identifier: MIT
#include "../object.hpp"

#include <pybind11/stl.h>

#include <memory>

#include "bindings.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// Hands libbpf's messages to Python's logging, where the application decides what becomes of them.
void log_messages(Object& object) {
  const std::string messages = object.take_messages();
  if (messages.empty()) return;
  py::module_::import("logging").attr("getLogger")("netkit_bpf.libbpf").attr("warning")("%s", messages);
}

// Replaces one variable in its section, which libbpf takes only whole.
void set_variable(Object& object, const std::string& name, const py::bytes& value) {
  const Object::Variable variable = object.variable(name);
  const auto data = view(value);
  if (data.size() != variable.size)
    throw py::value_error("variable '" + name + "' takes " + std::to_string(variable.size) + " bytes");
  std::vector<uint8_t> section = object.section(variable.section);
  std::copy(data.begin(), data.end(), section.begin() + variable.offset);
  object.set_section(variable.section, section);
}

}  // namespace

void bind_object(py::module_& module) {
  py::class_<Object, std::shared_ptr<Object>>(module, "Object")
      .def(py::init([](const py::bytes& image, const std::string& name) {
             auto object = std::make_shared<Object>(view(image), name);
             log_messages(*object);
             return object;
           }),
           py::arg("image"), py::arg("name"))
      .def("set_max_entries", &Object::set_max_entries, py::arg("map"), py::arg("entries"))
      .def("reuse_map", &Object::reuse_map, py::arg("map"), py::arg("fd"))
      .def("set_variable", &set_variable, py::arg("name"), py::arg("value"))
      .def(
          "variable",
          [](const Object& object, const std::string& name) {
            const Object::Variable variable = object.variable(name);
            return py::make_tuple(variable.section, variable.offset, variable.size);
          },
          py::arg("name"))
      .def("load",
           [](Object& object) {
             {
               const py::gil_scoped_release release;  // takes nothing of Python
               object.load();
             }
             log_messages(object);
           })
      .def("program", &Object::program, py::arg("name"))
      .def("map", &Object::map, py::arg("name"))
      .def("programs",
           [](const Object& object) {
             py::list found;
             for (const ProgramSpec& program : object.programs())
               found.append(py::make_tuple(program.name, program.section, program.type));
             return found;
           })
      .def("maps", &Object::maps)
      .def(
          "open_program",
          [](const Object& object, const std::string& name) {
            return std::make_shared<Program>(object.open_program(name));
          },
          py::arg("name"))
      .def(
          "test_run",
          [](const Object& object, const std::string& program, const py::bytes& packet, uint32_t repeat) {
            TestRun run;
            {
              const py::gil_scoped_release release;  // packet is held by the caller and immutable
              run = object.test_run(program, view(packet), repeat);
            }
            return py::make_tuple(static_cast<int32_t>(run.retval), to_bytes(run.data), run.duration_ns);
          },
          py::arg("program"), py::arg("packet"), py::arg("repeat") = 1);
}

}  // namespace netkit_bpf::python
