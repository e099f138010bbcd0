// SPDX-License-Identifier: MIT
#include "bpf/link.hpp"

#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>

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

// A link until close(). Whoever closes it while another thread calls leaves the descriptor to that thread.
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

// As Python writes it: namespace, name, number and kind of the device, and which hook.
using Address = std::tuple<netns::Namespace, std::string, int, std::string, int>;

Place to_place(const Address& address) {
  const auto& [space, device, ifindex, device_kind, hook] = address;
  return {space, {static_cast<Hook::Kind>(hook), ifindex, device, device_kind}};
}

std::unique_ptr<PyLink> attach(const Program& program, const Address& address, int where,
                               std::optional<std::pair<bool, uint32_t>> anchor, uint64_t expected_revision) {
  Placement placement{static_cast<Placement::Where>(where), false, 0, expected_revision};
  if (anchor) std::tie(placement.is_link, placement.id) = *anchor;
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
  module.def("hook_query", &query, py::arg("hook"), no_gil());
  module.def("hook_detach", &detach, py::arg("hook"), py::arg("program"), no_gil());
  module.def(
      "program_open", [](uint32_t id) { return std::make_shared<Program>(program::open(id)); }, py::arg("id"),
      no_gil());

  py::class_<PyLink>(module, "Link")
      .def(py::init(&attach), py::arg("program"), py::arg("hook"), py::arg("where"), py::arg("anchor"),
           py::arg("expected_revision"), no_gil())
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
      .def(py::init([](const std::string& observer, const netns::Namespace& space, const std::string& device,
                       int ifindex, const Program* primary, const Program* peer, int verdict_map,
                       size_t verdict_offset) {
             return std::make_shared<Observer>(observer, Observer::Place{device, ifindex, space},
                                               std::array{primary, peer}, VerdictCells(verdict_map, verdict_offset));
           }),
           py::arg("observer"), py::arg("space"), py::arg("device"), py::arg("ifindex"), py::arg("primary"),
           py::arg("peer"), py::arg("verdict_map"), py::arg("verdict_offset"), no_gil())
      .def("check", &Observer::check, no_gil())
      .def("close", &Observer::close, no_gil());
}

}  // namespace netkit_bpf::python
