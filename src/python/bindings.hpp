// SPDX-License-Identifier: MIT
// The functions by which each file of the bindings adds to the module.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace netkit_bpf {
struct MapInfo;
}

namespace netkit_bpf::python {

// The bytes of an object that the caller holds.
std::span<const uint8_t> view(const pybind11::bytes& bytes);
pybind11::bytes to_bytes(std::span<const uint8_t> data);
pybind11::tuple to_tuple(const MapInfo& info);
// Device names, and texts that the kernel quotes, can be any bytes: those that are not UTF-8 become \xff.
pybind11::str to_text(const std::string& raw);

void bind_errors();
void bind_words(pybind11::module_& module);
void bind_netns(pybind11::module_& module);
void bind_claim(pybind11::module_& module);
void bind_made(pybind11::module_& module);
void bind_devices(pybind11::module_& module);
void bind_program(pybind11::module_& module);
void bind_addresses(pybind11::module_& module);
void bind_netem(pybind11::module_& module);
void bind_pairs(pybind11::module_& module);
void bind_watch(pybind11::module_& module);
void bind_map(pybind11::module_& module);
void bind_btf(pybind11::module_& module);
void bind_object(pybind11::module_& module);
void bind_link(pybind11::module_& module);
void bind_filter(pybind11::module_& module);
void bind_rules(pybind11::module_& module);
void bind_maglev(pybind11::module_& module);
void bind_event(pybind11::module_& module);
void bind_batch(pybind11::module_& module);
void bind_stamped_batch(pybind11::module_& module);
void bind_stream(pybind11::module_& module);
void bind_records(pybind11::module_& module);
void bind_lines(pybind11::module_& module);
void bind_pcapng(pybind11::module_& module);
void bind_clock_offset(pybind11::module_& module);
void bind_flows(pybind11::module_& module);

}  // namespace netkit_bpf::python
