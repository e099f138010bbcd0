// SPDX-License-Identifier: MIT
#include "balancer/maglev.hpp"

#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// The entries as the kernel has them, 16 bits each.
py::bytes table_of(const std::vector<std::pair<std::string, uint32_t>>& weights, uint32_t size) {
  std::vector<uint16_t> table;
  {
    const WithoutGil waiting;
    std::vector<balancer::Candidate> candidates;
    candidates.reserve(weights.size());
    for (const auto& [name, weight] : weights) candidates.push_back({.name = name, .weight = weight});
    table = balancer::maglev_table(candidates, size);
  }
  return to_bytes({reinterpret_cast<const uint8_t*>(table.data()), table.size() * sizeof(uint16_t)});
}

}  // namespace

void bind_maglev(py::module_& module) { module.def("maglev_table", &table_of, py::arg("weights"), py::arg("size")); }

}  // namespace netkit_bpf::python
