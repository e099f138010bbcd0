// SPDX-License-Identifier: MIT
// Batches as tcpdump's lines, and batches of packets that a file holds.
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "events/parse.h"
#include "events/tcpdump/line.hpp"
#include "python/bindings.hpp"
#include "python/events/batch.hpp"
#include "python/mutex.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

Bytes to_bytes(EventBatch::Data data) { return {reinterpret_cast<const uint8_t*>(data.data()), data.size()}; }

class PyTcpdumpLines {
 public:
  explicit PyTcpdumpLines(const TcpdumpOptions& options) : lines_(options) {}

  // `shown` has a text for each pair, perhaps empty; without it no line has a side.
  py::str format(const PyEventBatch& made, const std::optional<std::vector<std::string>>& shown) {
    const EventBatch& batch = made.batch();
    std::string out;
    {
      const std::lock_guard lock(mutex_);
      for (size_t i = 0; i < batch.size(); ++i) {
        const nk_event event = to_event(batch[i]);
        const std::string_view pair = shown && event.pair < shown->size() ? (*shown)[event.pair] : std::string_view();
        lines_.append(out, event, to_bytes(batch.data(i)), pair, shown.has_value());
      }
    }
    return out;
  }

 private:
  Mutex mutex_;
  TcpdumpLines lines_;
};

std::unique_ptr<PyTcpdumpLines> make_lines(int time, bool nanoseconds, bool number, bool link, bool quiet,
                                           bool absolute, int verbose, int dump, bool dump_link, bool color) {
  TcpdumpOptions options;
  options.time = static_cast<LineTime::Style>(time);
  options.nanoseconds = nanoseconds;
  options.number = number;
  options.link = link;
  options.quiet = quiet;
  options.absolute = absolute;
  options.verbose = verbose;
  options.dump = static_cast<TcpdumpOptions::Dump>(dump);
  options.dump_link = dump_link;
  options.color = color;
  return std::make_unique<PyTcpdumpLines>(options);
}

// The bytes of a packet, how long it was before it was cut, its time, side and pair.
using Packet = std::tuple<py::bytes, uint32_t, int64_t, int, uint16_t>;

// A row for each packet, which is an Ethernet frame.
PyEventBatch parse_packets(const std::vector<Packet>& packets, const py::tuple& names) {
  std::vector<Row> rows(packets.size());
  std::vector<EventBatch::Data> data;
  for (size_t i = 0; i < packets.size(); ++i) {
    const auto& [bytes, length, timestamp_ns, side, pair] = packets[i];
    const std::string_view captured(bytes);
    nk_event event{};
    nk_parse(&event, reinterpret_cast<const __u8*>(captured.data()), static_cast<__u32>(captured.size()), length);
    event.timestamp = static_cast<uint64_t>(timestamp_ns);
    event.side = static_cast<__u8>(side);
    event.pair = pair;
    std::memcpy(&rows[i].timestamp_ns, &event, sizeof(event));
    unpack(rows[i], 0);
    data.push_back(std::as_bytes(std::span(captured)));
  }
  const auto shared = std::make_shared<const std::vector<std::string>>(names.cast<std::vector<std::string>>());
  return {EventBatch::from_rows(std::as_bytes(std::span(rows)), std::span<const EventBatch::Data>(data), shared),
          names};
}

}  // namespace

void bind_lines(py::module_& module) {
  module.def("parse_packets", &parse_packets, py::arg("packets"), py::arg("names"));

  py::class_<PyTcpdumpLines>(module, "TcpdumpLines")
      .def(py::init(&make_lines), py::kw_only(), py::arg("time"), py::arg("nanoseconds"), py::arg("number"),
           py::arg("link"), py::arg("quiet"), py::arg("absolute"), py::arg("verbose"), py::arg("dump"),
           py::arg("dump_link"), py::arg("color"))
      .def("format", &PyTcpdumpLines::format, py::arg("batch"), py::arg("shown"));
}

}  // namespace netkit_bpf::python
