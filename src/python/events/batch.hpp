// SPDX-License-Identifier: MIT
// A batch of events as Python sees it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <utility>

#include "events/batch.hpp"

namespace netkit_bpf::python {

// Immutable, so that any thread may use it, and without the GIL.
class PyEventBatch {
 public:
  // `names` is the tuple of the batch's names.
  PyEventBatch(EventBatch batch, pybind11::tuple names) : batch_(std::move(batch)), names_(std::move(names)) {}

  [[nodiscard]] const EventBatch& batch() const noexcept { return batch_; }
  [[nodiscard]] const pybind11::tuple& names() const noexcept { return names_; }
  // A new PacketEvent from an existing row. Null with an exception set on failure.
  [[nodiscard]] PyObject* event(size_t index) const;

 private:
  EventBatch batch_;
  pybind11::tuple names_;  // PacketEvents refer to them
};

}  // namespace netkit_bpf::python
