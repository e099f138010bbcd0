// SPDX-License-Identifier: MIT
// Arrow's PyCapsules: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <utility>

namespace netkit_bpf::python {

// Exports a structure into a capsule, which releases it if no consumer has.
template <typename Structure, typename Export>
pybind11::object capsule(const char* name, Export&& export_to) {
  auto structure = std::make_unique<Structure>();
  std::forward<Export>(export_to)(structure.get());
  PyObject* made = PyCapsule_New(structure.get(), name, [](PyObject* self) {
    auto* const held = static_cast<Structure*>(PyCapsule_GetPointer(self, PyCapsule_GetName(self)));
    if (held->release != nullptr) held->release(held);
    delete held;
  });
  if (made == nullptr) {
    structure->release(structure.get());
    throw pybind11::error_already_set();
  }
  static_cast<void>(structure.release());
  return pybind11::reinterpret_steal<pybind11::object>(made);
}

}  // namespace netkit_bpf::python
