// SPDX-License-Identifier: MIT
#include "observer/filter_program.hpp"

#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "observer/pcap_expression.hpp"
#include "python/bindings.hpp"
#include "python/events/batch.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

std::vector<sock_filter> to_instructions(const py::bytes& classic) {
  const std::string_view bytes(classic);
  std::vector<sock_filter> instructions(bytes.size() / sizeof(sock_filter));
  if (!instructions.empty()) std::memcpy(instructions.data(), bytes.data(), instructions.size() * sizeof(sock_filter));
  return instructions;
}

// A byte for each packet of the batch: whether it matches.
py::bytes match(const py::bytes& classic, const PyEventBatch& made) {
  const std::vector<sock_filter> program = to_instructions(classic);
  std::vector<uint8_t> matches;
  {
    const WithoutGil release;
    const EventBatch& batch = made.batch();
    std::vector<expression::Captured> frames;
    frames.reserve(batch.size());
    for (size_t i = 0; i < batch.size(); ++i) {
      const EventBatch::Data data = batch.data(i);
      const uint32_t tag = (batch[i].flags & NK_TAG_BESIDE) != 0 ? 4 : 0;
      frames.push_back({{reinterpret_cast<const uint8_t*>(data.data()), data.size()}, batch[i].length + tag});
    }
    matches = expression::match(program, frames);
  }
  return {reinterpret_cast<const char*>(matches.data()), matches.size()};
}

}  // namespace

void bind_filter(py::module_& module) {
  module.def(
      "compile_filter",
      [](const std::string& text) {
        std::vector<sock_filter> program;
        {
          const WithoutGil release;  // may look up names; uses nothing of Python
          program = expression::compile(text);
        }
        return py::bytes(reinterpret_cast<const char*>(program.data()), program.size() * sizeof(sock_filter));
      },
      py::arg("expression"));

  module.def("match_filter", &match, py::arg("classic"), py::arg("batch"));

  py::class_<FilterProgram>(module, "FilterProgram")
      .def(py::init([](const py::bytes& classic, int program, int side, int verdict_map, uint32_t verdict_offset,
                       std::optional<uint32_t> recording_offset, const FilterProgram* first) {
             const std::vector<sock_filter> instructions = to_instructions(classic);
             const WithoutGil release;  // what it needs is copied
             return std::make_unique<FilterProgram>(
                 instructions,
                 FilterProgram::Observer{program, static_cast<Side>(side), verdict_map, verdict_offset,
                                         recording_offset, first != nullptr},
                 first);
           }),
           py::arg("classic"), py::arg("program"), py::arg("side"), py::arg("verdict_map"), py::arg("verdict_offset"),
           py::arg("recording_offset") = std::nullopt, py::arg("first") = py::none())
      .def_property_readonly("program", &FilterProgram::program, py::return_value_policy::reference_internal)
      .def_property_readonly("filtered", &FilterProgram::filtered);
}

}  // namespace netkit_bpf::python
