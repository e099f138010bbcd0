// SPDX-License-Identifier: MIT
// The table of contents of the private extension module. Docstrings live in Python.
#include "python/bindings.hpp"

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  using namespace netkit_bpf::python;
  bind_errors();
  bind_words(module);
  bind_made(module);
  bind_netns(module);
  bind_claim(module);
  bind_devices(module);
  bind_program(module);
  bind_addresses(module);
  bind_netem(module);
  bind_pairs(module);
  bind_watch(module);
  bind_map(module);
  bind_btf(module);
  bind_object(module);
  bind_link(module);
  bind_filter(module);
  bind_rules(module);
  bind_maglev(module);
  bind_event(module);
  bind_stream(module);
  bind_batch(module);
  bind_stamped_batch(module);
  bind_records(module);
  bind_lines(module);
  bind_pcapng(module);
  bind_clock_offset(module);
  bind_flows(module);
}
