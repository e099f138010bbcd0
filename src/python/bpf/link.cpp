// SPDX-License-Identifier: MIT
#include "bpf/link.hpp"

#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "base/netns.hpp"
#include "bpf/program.hpp"
#include "observer/observer.hpp"
#include "python/bindings.hpp"
#include "python/gil.hpp"
#include "python/mutex.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

using Entry = std::tuple<uint32_t, uint32_t, std::optional<std::string>>;

// A link until close(). If it is closed during a call of another thread, that thread closes the descriptor.
class PyLink {
 public:
  explicit PyLink(std::shared_ptr<Link> link) : link_(std::move(link)) {}
  ~PyLink() { close(); }
  PyLink(const PyLink&) = delete;
  PyLink& operator=(const PyLink&) = delete;

  // With the GIL released.
  template <typename Function>
  auto call(Function&& f) {
    const std::shared_ptr<Link> link = held();
    if (!link) throw py::value_error("the link is closed");
    const WithoutGil release;
    return f(*link);
  }

  void close() noexcept {
    std::shared_ptr<Link> closing;
    {
      const std::lock_guard lock(mutex_);
      closing = std::move(link_);
    }
    if (!closing) return;
    const WithoutGil release;  // detaching waits for the packets under way
    closing.reset();
  }

  [[nodiscard]] bool closed() const { return !held(); }

 private:
  [[nodiscard]] std::shared_ptr<Link> held() const {
    const std::lock_guard lock(mutex_);
    return link_;
  }

  mutable Mutex mutex_;
  std::shared_ptr<Link> link_;
};

// A hook, and the namespace of its device.
struct Place {
  netns::Namespace space;
  Hook hook;
};

// The Python form: namespace, name, number and kind of the device, and which hook.
using Address = std::tuple<netns::Namespace, std::string, int, std::string, int>;

Place to_place(const Address& address) {
  const auto& [space, device, ifindex, device_kind, hook] = address;
  return {space, {static_cast<Hook::Kind>(hook), ifindex, device, device_kind}};
}

// The Python form of a placement: where, the rank, whether the anchor is a link, and its number.
using Where = std::tuple<int, int, bool, uint32_t>;

Placement to_placement(const Where& written) {
  const auto& [where, rank, is_link, id] = written;
  return {static_cast<Placement::Where>(where), static_cast<Rank>(rank), is_link, id, 0};
}

std::unique_ptr<PyLink> attach(const Program& program, const Address& address, const Where& where,
                               uint64_t expected_revision) {
  Placement placement = to_placement(where);
  placement.expected_revision = expected_revision;
  const Place place = to_place(address);
  std::shared_ptr<Link> link;
  netns::run_inside(place.space, [&] { link = std::make_shared<Link>(place.hook, program, placement); });
  return std::make_unique<PyLink>(std::move(link));
}

std::pair<std::optional<uint64_t>, std::vector<Entry>> query(const Address& address) {
  const Place place = to_place(address);
  std::pair<std::optional<uint64_t>, std::vector<Entry>> answer;
  netns::run_inside(place.space, [&] {
    const hook::Programs found = hook::query(place.hook);
    answer.first = found.revision;
    for (const hook::Entry& entry : found.entries)
      answer.second.emplace_back(entry.program_id, entry.link_id, program::name_of(entry.program_id));
  });
  return answer;
}

void detach(const Address& address, const Program& program) {
  const Place place = to_place(address);
  netns::run_inside(place.space, [&] { hook::detach(place.hook, program); });
}

}  // namespace

void bind_link(py::module_& module) {
  using no_gil = py::call_guard<WithoutGil>;

  module.def("hook_of_side", [](int side, const std::string& kind) {
    return static_cast<int>(hook::of_side(static_cast<Side>(side), kind));
  });
  module.def("rank_of_program", [](const std::string& name) {
    const std::optional<Rank> rank = hook::rank_of(std::string_view(name));
    return rank ? std::optional(static_cast<int>(*rank)) : std::nullopt;
  });
  module.def("hook_query", &query, py::arg("hook"), no_gil());
  module.def("hook_detach", &detach, py::arg("hook"), py::arg("program"), no_gil());
  module.def(
      "program_open", [](uint32_t id) { return std::make_shared<Program>(program::open(id)); }, py::arg("id"),
      no_gil());
  module.def(
      "program_open_pinned",
      [](const std::string& path) { return std::make_shared<Program>(program::open_pinned(path)); }, py::arg("path"),
      no_gil());

  py::class_<PyLink>(module, "Link")
      .def(py::init(without_gil(&attach)), py::arg("program"), py::arg("hook"), py::arg("where"),
           py::arg("expected_revision"))
      .def_static(
          "open_pinned", [](const std::string& path) { return std::make_unique<PyLink>(std::make_shared<Link>(path)); },
          py::arg("path"), no_gil())
      .def("info",
           [](PyLink& self) {
             const Link::Info info = self.call([](const Link& link) { return link.info(); });
             return std::make_tuple(info.id, info.program_id, static_cast<int>(info.kind), info.ifindex);
           })
      .def(
          "update",
          [](PyLink& self, const Program& program, const Program* expected) {
            self.call([&](Link& link) { link.update(program, expected); });
          },
          py::arg("program"), py::arg("expected"))
      .def("detach", [](PyLink& self) { self.call([](Link& link) { link.detach(); }); })
      .def(
          "pin", [](PyLink& self, const std::string& path) { self.call([&](Link& link) { link.pin(path); }); },
          py::arg("path"))
      .def("unpin", [](PyLink& self) { self.call([](Link& link) { link.unpin(); }); })
      .def("pinned_at", [](PyLink& self) { return self.call([](const Link& link) { return link.pinned_at(); }); })
      .def("close", &PyLink::close)
      .def_property_readonly("closed", &PyLink::closed);

  module.attr("VERDICT_SIZE") = sizeof(int32_t);  // of one side's
  py::class_<Observer, std::shared_ptr<Observer>>(module, "Observer")
      .def(py::init(without_gil(
               +[](const std::string& observer, const netns::Namespace& space, const std::string& device, int ifindex,
                   const Program* primary, const Program* peer, int verdict_map, size_t verdict_offset,
                   const Where& where, const std::optional<std::tuple<netns::Namespace, std::string, int>>& receiver,
                   bool sees_all, const std::optional<std::tuple<const Program*, const Program*, size_t>>& standby) {
                 std::optional<Observer::Place> place;
                 if (receiver) place = {std::get<1>(*receiver), std::get<2>(*receiver), std::get<0>(*receiver)};
                 std::optional<Standby> copies;
                 if (standby) {
                   const auto [primary_copy, peer_copy, offset] = *standby;
                   copies.emplace(Standby{{}, SideCells(verdict_map, offset)});
                   if (primary_copy != nullptr) copies->programs[0] = primary_copy->duplicate();
                   if (peer_copy != nullptr) copies->programs[1] = peer_copy->duplicate();
                 }
                 return std::make_shared<Observer>(observer, Observer::Place{device, ifindex, space},
                                                   std::array{primary, peer}, SideCells(verdict_map, verdict_offset),
                                                   to_placement(where), place, sees_all, std::move(copies));
               })),
           py::arg("observer"), py::arg("space"), py::arg("device"), py::arg("ifindex"), py::arg("primary"),
           py::arg("peer"), py::arg("verdict_map"), py::arg("verdict_offset"), py::arg("where"), py::arg("receiver"),
           py::arg("sees_all"), py::arg("standby"))
      .def("check", &Observer::check, no_gil())
      .def("predecessors",
           [](const Observer& observer) {
             std::vector<std::pair<int, Entry>> found;
             const WithoutGil release;
             for (const Observer::Predecessor& each : observer.predecessors()) {
               const auto [program, link] = each.program;
               found.emplace_back(static_cast<int>(each.side), Entry{program, link, program::name_of(program)});
             }
             return found;
           })
      .def("program_ids", &Observer::program_ids, no_gil())
      .def("detach", &Observer::detach, no_gil())
      .def("close", &Observer::close, no_gil());
}

}  // namespace netkit_bpf::python
