// SPDX-License-Identifier: MIT
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "firewall/compiler.hpp"
#include "firewall/lookup.hpp"
#include "firewall/text.hpp"
#include "firewall/words.hpp"
#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

using firewall::Rule;
using firewall::Ruleset;
using firewall::Tables;

template <typename Word>
std::optional<int> number(const std::optional<Word>& word) {
  return word ? std::optional(static_cast<int>(*word)) : std::nullopt;
}

std::vector<std::pair<uint32_t, uint32_t>> pairs(const std::vector<firewall::Range>& ranges) {
  std::vector<std::pair<uint32_t, uint32_t>> all;
  all.reserve(ranges.size());
  for (const firewall::Range& range : ranges) all.emplace_back(range.first, range.last);
  return all;
}

std::vector<std::string> texts(const std::vector<firewall::Network>& networks) {
  std::vector<std::string> all;
  all.reserve(networks.size());
  for (const firewall::Network& network : networks) all.push_back(to_text(network));
  return all;
}

// A ruleset and its tables.
struct Compiled {
  std::shared_ptr<const Ruleset> rules;
  Tables tables;
};

// A field of a rule as its words; None where it asks nothing.
py::object endpoint(const firewall::Endpoint& endpoint) {
  if (!endpoint.set.empty()) return py::str("<" + endpoint.set + ">");
  if (endpoint.networks.empty()) return py::none();
  return py::tuple(py::cast(texts(endpoint.networks)));
}

Rule make_rule(bool is_drop, std::optional<int> side, bool log, std::optional<int> family,
               const std::vector<std::pair<std::string, std::string>>& fields, std::optional<uint8_t> icmp_code,
               std::optional<int> fragment, const std::string& label) {
  Rule rule;
  rule.action = is_drop ? firewall::Action::drop : firewall::Action::pass;
  if (side) rule.side = static_cast<Side>(*side);
  rule.log = log;
  if (family) rule.family = static_cast<firewall::Family>(*family);
  for (const auto& [field, text] : fields) {
    try {
      firewall::set_field(rule, field, text);
    } catch (const firewall::SyntaxError& error) {
      std::string message = field;
      message.append(" '").append(text).append("': ").append(error.problem);
      throw std::invalid_argument(message);
    }
  }
  rule.icmp_code = icmp_code;
  if (fragment) rule.fragment = static_cast<firewall::Fragment>(*fragment);
  rule.label = label;
  check(rule);
  return rule;
}

// The offsets in the order in which the program has them.
py::tuple layout_words(const nk_fw_layout& layout) {
  std::vector<uint32_t> words(sizeof(layout) / sizeof(uint32_t));
  std::memcpy(words.data(), &layout, sizeof(layout));
  return py::tuple(py::cast(words));
}

firewall::Packet make_packet(int side, int family, std::pair<uint64_t, uint64_t> src, std::pair<uint64_t, uint64_t> dst,
                             uint32_t fragment, uint32_t protocol, uint32_t src_port, uint32_t dst_port,
                             uint32_t tcp_flags, uint32_t length) {
  return {.side = static_cast<Side>(side),
          .family = static_cast<firewall::Family>(family),
          .src = {.high = src.first, .low = src.second},
          .dst = {.high = dst.first, .low = dst.second},
          .fragment = fragment,
          .protocol = protocol,
          .src_port = src_port,
          .dst_port = dst_port,
          .tcp_flags = tcp_flags,
          .length = length};
}

}  // namespace

void bind_rules(py::module_& module) {
  using no_gil = py::call_guard<WithoutGil>;
  py::class_<Rule, std::shared_ptr<Rule>>(module, "Rule")
      .def(py::init([](const std::string& text) { return std::make_shared<Rule>(firewall::parse_rule(text)); }),
           py::arg("text"))
      .def_static("make", &make_rule, py::arg("is_drop"), py::arg("side"), py::arg("log"), py::arg("family"),
                  py::arg("fields"), py::arg("icmp_code"), py::arg("fragment"), py::arg("label"))
      .def_property_readonly("is_drop", [](const Rule& rule) { return rule.action == firewall::Action::drop; })
      .def_property_readonly("side", [](const Rule& rule) { return number(rule.side); })
      .def_property_readonly("log", [](const Rule& rule) { return rule.log; })
      .def_property_readonly("family", [](const Rule& rule) { return number(rule.family); })
      .def_property_readonly("src", [](const Rule& rule) { return endpoint(rule.from); })
      .def_property_readonly("dst", [](const Rule& rule) { return endpoint(rule.to); })
      .def_property_readonly("protocols",
                             [](const Rule& rule) {
                               std::vector<std::string> words;
                               words.reserve(rule.protocols.size());
                               for (const uint8_t protocol : rule.protocols)
                                 words.push_back(firewall::protocol_word(protocol));
                               return words;
                             })
      .def_property_readonly("src_ports", [](const Rule& rule) { return pairs(rule.from.ports); })
      .def_property_readonly("dst_ports", [](const Rule& rule) { return pairs(rule.to.ports); })
      .def_property_readonly("icmp_types", [](const Rule& rule) { return pairs(rule.icmp_types); })
      .def_property_readonly("icmp_code", [](const Rule& rule) { return rule.icmp_code; })
      .def_property_readonly("tcp_flags",
                             [](const Rule& rule) -> py::object {
                               if (!rule.tcp_flags) return py::none();
                               return py::str(firewall::tcp_flags_word(rule.tcp_flags->set) + "/" +
                                              firewall::tcp_flags_word(rule.tcp_flags->mask));
                             })
      .def_property_readonly("lengths", [](const Rule& rule) { return pairs(rule.lengths); })
      .def_property_readonly("fragment", [](const Rule& rule) { return number(rule.fragment); })
      .def_property_readonly("rate",
                             [](const Rule& rule) -> std::optional<std::pair<std::string, uint32_t>> {
                               if (!rule.rate) return std::nullopt;
                               firewall::Rate alone = *rule.rate;
                               alone.burst = firewall::Rate::usual_burst;  // of which nothing is written
                               return std::pair(to_text(alone), rule.rate->burst);
                             })
      .def_property_readonly("label", [](const Rule& rule) { return rule.label; })
      .def_property_readonly("line", [](const Rule& rule) { return rule.line; })
      .def("text", [](const Rule& rule) { return to_text(rule); })
      .def("__eq__", [](const Rule& rule, const Rule& other) { return rule == other; }, py::is_operator());

  py::class_<Compiled, std::shared_ptr<Compiled>>(module, "RuleTables")
      .def_property_readonly("layout", [](const Compiled& compiled) { return layout_words(compiled.tables.layout); })
      .def_property_readonly("has_rates", [](const Compiled& compiled) { return compiled.tables.layout.limits != 0; })
      .def_property_readonly(
          "has_logs", [](const Compiled& compiled) { return std::ranges::any_of(compiled.rules->rules, &Rule::log); })
      .def_property_readonly("bytes", [](const Compiled& compiled) { return to_bytes(compiled.tables.bytes); })
      .def(
          "warnings", [](const Compiled& compiled) { return warnings(*compiled.rules, compiled.tables); }, no_gil())
      .def(
          "matching",
          [](const Compiled& compiled, const firewall::Packet& packet, size_t most) {
            return firewall::Lookup(compiled.tables).matching(packet, most);
          },
          py::arg("packet"), py::arg("most"));

  py::class_<firewall::Packet>(module, "RulePacket")
      .def_static(
          "parse",
          [](const std::string& text, int side) { return firewall::parse_packet(text, static_cast<Side>(side)); },
          py::arg("text"), py::arg("side"))
      .def(py::init(&make_packet), py::arg("side"), py::arg("family"), py::arg("src"), py::arg("dst"),
           py::arg("fragment"), py::arg("protocol"), py::arg("src_port"), py::arg("dst_port"), py::arg("tcp_flags"),
           py::arg("length"));

  py::class_<Ruleset, std::shared_ptr<Ruleset>>(module, "Ruleset")
      .def_static(
          "parse", [](const std::string& text) { return std::make_shared<Ruleset>(firewall::parse_ruleset(text)); },
          py::arg("text"), no_gil())
      .def_static(
          "make",
          [](const std::vector<std::shared_ptr<Rule>>& rules, const std::map<std::string, std::string>& sets) {
            auto made = std::make_shared<Ruleset>();
            for (const std::shared_ptr<Rule>& rule : rules) made->rules.push_back(*rule);
            for (const auto& [name, networks] : sets) made->sets[name] = firewall::parse_networks(networks);
            return made;
          },
          py::arg("rules"), py::arg("sets"))
      .def("__len__", [](const Ruleset& ruleset) { return ruleset.rules.size(); })
      .def(
          "rule",
          [](const Ruleset& ruleset, size_t number) { return std::make_shared<Rule>(ruleset.rules.at(number)); },
          py::arg("number"))
      .def_property_readonly("sets",
                             [](const Ruleset& ruleset) {
                               std::map<std::string, std::vector<std::string>> sets;
                               for (const auto& [name, networks] : ruleset.sets) sets[name] = texts(networks);
                               return sets;
                             })
      .def("set_names",
           [](const Ruleset& ruleset) {
             std::vector<std::string> names;
             for (const auto& [name, networks] : ruleset.sets) names.push_back(name);
             return names;
           })
      .def(
          "with_set",
          [](const Ruleset& ruleset, const std::string& name, const std::string& networks) {
            auto made = std::make_shared<Ruleset>(ruleset);
            made->sets[name] = firewall::parse_networks(networks);
            return made;
          },
          py::arg("name"), py::arg("networks"), no_gil())
      .def("text", [](const Ruleset& ruleset) { return to_text(ruleset); })
      .def(
          "compile",
          [](const std::shared_ptr<Ruleset>& ruleset) {
            return std::make_shared<Compiled>(Compiled{ruleset, firewall::compile(*ruleset)});
          },
          no_gil())
      .def(
          "same_rules",
          [](const Ruleset& now, const Ruleset& before) { return firewall::same_rules(now.rules, before.rules); },
          py::arg("before"), no_gil())
      .def(
          "__eq__",
          [](const Ruleset& one, const Ruleset& other) { return one.rules == other.rules && one.sets == other.sets; },
          py::is_operator());
}

}  // namespace netkit_bpf::python
