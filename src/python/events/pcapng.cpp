// SPDX-License-Identifier: MIT
#include "events/pcapng.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/bindings.hpp"
#include "python/events/batch.hpp"
#include "python/events/stream.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// The number of each pair's side as an interface, at pair * NK_SIDES + side.
using Interfaces = std::vector<uint32_t>;

// Appends the packets of a slice, and counts those of each interface. Stops at a record that does not belong to an
// interface, and returns it.
std::optional<Record> append_packets(std::string& out, const Slice& slice, const Interfaces& interfaces,
                                     std::vector<uint64_t> dropped, std::vector<size_t>& counts) {
  for (const Record& record : Records(slice.run)) {
    if (record.data().size() < sizeof(nk_event)) return record;
    const pcapng::Packet packet(record.data(), slice.clock_offset_ns);
    const size_t place = packet.pair() * NK_SIDES + packet.side();
    if (packet.side() >= NK_SIDES || place >= interfaces.size()) return record;
    const uint32_t interface = interfaces[place];
    packet.append_to(out, interface, std::exchange(dropped.at(interface), 0));
    ++counts.at(interface);
  }
  return std::nullopt;
}

// The next available packets, as blocks of a file, and their number for each interface. `dropped`, by interface, is
// recorded with the next packet of each. It ends before a record that does not belong to an interface; the next call
// throws the error. An IndexError, and the records stay, if the stream's names are others than `names`: the interfaces
// were known before a pair was added.
py::tuple take_packets(PyStream& stream, size_t most, std::optional<double> timeout, const Interfaces& interfaces,
                       const std::vector<uint64_t>& dropped, const py::tuple& names) {
  PyStream::Taking taking(stream);
  const std::optional<Slice> slice = stream.take(taking, most, deadline_after(timeout));
  if (slice && !stream.names().is(names)) {
    stream.put_back({*slice}, 0, 0);
    throw py::index_error("a pair was added");
  }
  std::string out;
  std::vector<size_t> counts(dropped.size());
  std::optional<Record> bad;
  if (slice) {
    const WithoutGil release;  // the slice is ours
    out.reserve(slice->run.size() + slice->run.size() / 2);
    bad = append_packets(out, *slice, interfaces, dropped, counts);
  }
  if (slice && bad) {
    stream.put_back({*slice}, 0, static_cast<size_t>((out.empty() ? bad->end() : bad->start) - slice->run.data()));
    if (out.empty())
      throw py::value_error("a record of " + std::to_string(bad->data().size()) +
                            " bytes is not a packet of a watched pair and side");
  }
  return py::make_tuple(py::bytes(out), counts);
}

// Rows of a batch as blocks of a file: of each pair, the interfaces are those of its sides.
py::bytes rows(const PyEventBatch& made, size_t first, size_t most) {
  std::string out;
  {
    const WithoutGil release;
    const EventBatch& batch = made.batch();
    const std::vector<std::string>& names = *batch.names();
    for (size_t i = first; i < std::min(batch.size(), first + most); ++i) {
      const pcapng::Packet packet(to_event(batch[i]), batch.data(i));
      const bool is_of_pair = packet.pair() >= names.size() || !names[packet.pair()].empty();
      packet.append_to(out, static_cast<uint32_t>(packet.pair() * NK_SIDES + packet.side()), 0, is_of_pair);
    }
  }
  return {out};
}

template <typename Append>
py::bytes block(Append&& append) {
  std::string out;
  std::forward<Append>(append)(out);
  return {out};
}

}  // namespace

void bind_pcapng(py::module_& module) {
  module.def(
      "pcapng_section",
      [](const std::string& application) {
        return block([&](std::string& out) { pcapng::append_section(out, application); });
      },
      py::arg("application"));
  module.def(
      "pcapng_interface",
      [](const std::string& name, const std::string& description, const std::string& filter, uint32_t snaplen) {
        return block([&](std::string& out) { pcapng::append_interface(out, {name, description, filter, snaplen}); });
      },
      py::arg("name"), py::arg("description"), py::arg("filter"), py::arg("snaplen"));
  module.def("pcapng_take", &take_packets, py::arg("stream"), py::arg("most"), py::arg("timeout"),
             py::arg("interfaces"), py::arg("dropped"), py::arg("names"));
  module.def("pcapng_rows", &rows, py::arg("batch"), py::arg("first"), py::arg("most"));
  module.def(
      "pcapng_statistics",
      [](uint32_t interface, uint64_t start_ns, uint64_t end_ns, uint64_t received, uint64_t accepted, uint64_t dropped,
         uint64_t delivered) {
        return block([&](std::string& out) {
          pcapng::append_statistics(out, interface, {start_ns, end_ns, received, accepted, dropped, delivered});
        });
      },
      py::arg("interface"), py::arg("start_ns"), py::arg("end_ns"), py::arg("received"), py::arg("accepted"),
      py::arg("dropped"), py::arg("delivered"));
}

}  // namespace netkit_bpf::python
