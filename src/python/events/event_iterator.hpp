// SPDX-License-Identifier: MIT
// The iterator over the events of a stream, for `for` and for `async for`.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>

namespace netkit_bpf::python {

// To be called once, before the first iterator is made.
void make_event_iterator_type();

// Of a stream as Python sees it. Ends after `timeout` seconds without an event, `duration` seconds from now, or `count`
// events; without these at the end of the stream. `make_async` gives the asynchronous iterator over the same.
pybind11::object make_event_iterator(const pybind11::object& stream, std::optional<double> timeout,
                                     std::optional<double> duration, std::optional<int64_t> count,
                                     const pybind11::object& make_async);

}  // namespace netkit_bpf::python
