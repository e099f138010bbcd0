// SPDX-License-Identifier: MIT
// Waits are short here: Python code loops around them and runs signal handlers.
#include "devices/pair_watch.hpp"

#include <linux/rtnetlink.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <utility>

#include "base/netns.hpp"
#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

constexpr double longest_wait = 60.0;

std::chrono::nanoseconds seconds(double value) {
  const std::chrono::duration<double> limited(std::clamp(value, 0.0, longest_wait));
  return std::chrono::duration_cast<std::chrono::nanoseconds>(limited);
}

using EndOf = std::pair<netns::Namespace, std::pair<int, std::string>>;  // and ifindex and name

std::optional<PairWatch::End> to_end(const std::optional<EndOf>& end) {
  if (!end) return std::nullopt;
  return PairWatch::End{end->first, {end->second.first, end->second.second}};
}

constexpr std::array settled{int{RTNLGRP_LINK}, int{RTNLGRP_IPV6_IFADDR}};

}  // namespace

void bind_watch(py::module_& module) {
  using no_gil = py::call_guard<WithoutGil>;
  py::class_<Change>(module, "Change")
      .def_property_readonly("side", [](const Change& change) { return static_cast<int>(change.side); })
      .def_property_readonly("kind", [](const Change& change) { return static_cast<int>(change.kind); })
      .def_property_readonly("name", [](const Change& change) { return to_text(change.name); })
      .def_readonly("ifindex", &Change::ifindex)
      .def_readonly("nsid", &Change::nsid);
  py::class_<PairWatch>(module, "PairWatch")
      .def(py::init(without_gil(+[](const std::optional<EndOf>& primary, const std::optional<EndOf>& peer) {
             return std::make_unique<PairWatch>(std::array{to_end(primary), to_end(peer)});
           })),
           py::arg("primary"), py::arg("peer"))
      .def("next", &PairWatch::next, no_gil())
      .def("ended", &PairWatch::ended, no_gil())
      .def("fileno", &PairWatch::fd)
      .def("wake", &PairWatch::wake)
      .def(
          "is_destination",
          [](PairWatch& watch, int side, int nsid, const netns::Namespace& space) {
            return watch.is_destination(static_cast<Side>(side), nsid, space);
          },
          py::arg("side"), py::arg("nsid"), py::arg("space"), no_gil())
      .def(
          "follow",
          [](PairWatch& watch, int side, const netns::Namespace& space) {
            watch.follow(static_cast<Side>(side), space);
          },
          py::arg("side"), py::arg("space"), no_gil());
  // Notifications that can make a device ready: changes of its state and its IPv6 addresses.
  py::class_<Subscription>(module, "Subscription")
      .def(py::init(without_gil(+[](const netns::Namespace& space) {
             std::unique_ptr<Subscription> made;
             netns::run_inside(space, [&] { made = std::make_unique<Subscription>(settled); });
             return made;
           })),
           py::arg("space"))
      .def(
          "wait",
          [](Subscription& subscription, double value) {
            subscription.wait(seconds(value));
            subscription.read([](const nlmsghdr*, std::optional<int>) {});
          },
          py::arg("seconds"), no_gil());
}

}  // namespace netkit_bpf::python
