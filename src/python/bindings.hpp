// SPDX-License-Identifier: MIT
// What each file of the bindings adds to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace netkit_bpf::python {

void bind_errors();
void bind_netns(pybind11::module_& module);
void bind_devices(pybind11::module_& module);
void bind_object(pybind11::module_& module);
void bind_event(pybind11::module_& module);
void bind_stream(pybind11::module_& module);

}  // namespace netkit_bpf::python
