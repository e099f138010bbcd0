// SPDX-License-Identifier: MIT
// A batch of events as Python sees it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <optional>
#include <utility>

#include "events/batch.hpp"
#include "python/events/stream.hpp"

namespace netkit_bpf::python {

// Immutable, so that any thread may use it, and without the GIL.
class PyEventBatch {
 public:
  // `names` is the tuple of the batch's names.
  PyEventBatch(EventBatch batch, pybind11::tuple names) : batch_(std::move(batch)), names_(std::move(names)) {}

  [[nodiscard]] const EventBatch& batch() const noexcept { return batch_; }
  [[nodiscard]] const pybind11::tuple& names() const noexcept { return names_; }
  // A new PacketEvent of a row that there is. Null with an exception set.
  [[nodiscard]] PyObject* event(size_t index) const;

 private:
  EventBatch batch_;
  pybind11::tuple names_;  // PacketEvents refer to them
};

// The packet events that wait, at most `most` of them, waiting for the first; empty on time-out and at the end. Without
// `merge` those of one block only, which costs no copy if they are many. `with_data` says whether the records have any.
PyEventBatch read_batch(PyStream& stream, size_t most, std::optional<double> timeout, bool merge, bool with_data);

}  // namespace netkit_bpf::python
