// SPDX-License-Identifier: MIT
#include "bpf/program.hpp"

#include <cerrno>
#include <memory>
#include <string_view>

#include "base/error.hpp"
#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

std::span<const uint8_t> view(const py::bytes& bytes) {
  const std::string_view text(bytes);
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

py::bytes to_bytes(std::span<const uint8_t> data) { return {reinterpret_cast<const char*>(data.data()), data.size()}; }

namespace {

py::tuple test_run(const Program& program, const py::bytes& packet, uint32_t repeat, const py::bytes& context) {
  TestRun run;
  try {
    const auto data = view(packet);  // both are held by the caller and immutable
    const auto given = view(context);
    const WithoutGil release;
    run = program.test_run(data, repeat, given);
  } catch (const Error& error) {
    // A signal ends a long run; if its handler raises, the caller gets that exception.
    if (error.number() == EINTR && call_python(PyErr_CheckSignals) != 0) throw py::error_already_set();
    throw;
  }
  return py::make_tuple(static_cast<int32_t>(run.retval), to_bytes(run.data), run.duration_ns, to_bytes(run.context));
}

}  // namespace

void bind_program(py::module_& module) {
  using no_gil = py::call_guard<WithoutGil>;
  py::class_<Program, std::shared_ptr<Program>>(module, "Program")
      .def("fileno", &Program::fd)
      .def("info",
           [](const Program& program) {
             const ProgramInfo info = program.info();
             return py::make_tuple(info.id, info.type, to_bytes(info.tag), to_text(info.name));
           })
      .def("pin", &Program::pin, py::arg("path"), no_gil())
      .def("test_run", &test_run, py::arg("packet"), py::arg("repeat"), py::arg("context"));
}

}  // namespace netkit_bpf::python
