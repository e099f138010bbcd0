// SPDX-License-Identifier: MIT
#include "firewall/compiler.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "firewall/order.hpp"
#include "firewall/sets.hpp"
#include "firewall/sweep.hpp"

namespace netkit_bpf::firewall {

namespace {

constexpr size_t most_merged = 16384;  // combinations of a service and a number; more would not stay in a cache
constexpr uint32_t numbers = 65536;

unsigned fragment_bits(std::optional<Fragment> fragment) {
  constexpr unsigned first = 1U << NK_FIRST;
  constexpr unsigned later = 1U << NK_LATER;
  if (!fragment) return 1U << NK_WHOLE | first | later;
  if (*fragment == Fragment::any) return first | later;
  return *fragment == Fragment::first ? first : later;
}

// By rule; empty if none has a rate.
std::vector<nk_fw_limit> limits_of(const std::vector<Rule>& rules) {
  constexpr uint64_t second = 1'000'000'000;
  std::vector<nk_fw_limit> limits;
  for (size_t number = 0; number < rules.size(); ++number) {
    const std::optional<Rate>& rate = rules[number].rate;
    if (!rate) continue;
    limits.resize(rules.size());
    const uint64_t interval = std::max<uint64_t>(1, rate->seconds * second / rate->packets);
    constexpr uint64_t longest = std::numeric_limits<int64_t>::max();
    const uint64_t tokens = rate->burst - 1;  // which take so long that a product could wrap
    limits[number] = {.interval = interval, .room = tokens > longest / interval ? longest : tokens * interval};
  }
  return limits;
}

// Rules by what they ask, which is told by bytes, and those that ask nothing.
class Grouping {
 public:
  void add(uint32_t bit, std::string_view key) {
    auto found = numbers_.find(key);
    if (found == numbers_.end()) {
      found = numbers_.emplace(key, groups.size()).first;
      groups.emplace_back();
    }
    groups[found->second].rules.push_back(bit);
  }

  std::vector<uint32_t> base;
  std::vector<Group> groups;

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, size_t, Hash, std::equal_to<>> numbers_;
};

template <typename Value>
void append(std::string& key, const Value& value) {
  static_assert(std::has_unique_object_representations_v<Value>);
  std::array<char, sizeof(Value)> bytes{};
  std::memcpy(bytes.data(), &value, sizeof(Value));
  key.append(bytes.data(), bytes.size());
}

class Compiler {
 public:
  explicit Compiler(const Ruleset& ruleset)
      : ruleset_(ruleset),
        shape_(ruleset.rules.size()),
        order_(positions_of(ruleset, shape_.group * 64)),
        bits_(order_.size()),
        rows_(shape_, NK_FW_MAX_SIZE) {
    for (uint32_t bit = 0; bit < order_.size(); ++bit) bits_[order_[bit]] = bit;
  }

  Tables compile();

 private:
  using RangesOf = std::function<std::vector<Range>(const Rule&)>;

  void kinds();
  Numbers number(uint32_t domain, const RangesOf& ranges_of);
  void merge(Numbers& numbers);
  void addresses(size_t which, const std::function<const Endpoint&(const Rule&)>& endpoint_of);

  const Ruleset& ruleset_;
  Shape shape_;
  std::vector<uint32_t> order_;  // the rule's number by its bit
  std::vector<uint32_t> bits_;   // and the bit by the number: rules are gone through as they lie in memory
  Rows rows_;
  std::vector<uint16_t> kinds_;
  Classes services_;
  std::array<std::array<std::vector<Boundary>, 2>, 2> boundaries_;
  std::array<uint32_t, 2> no_address_{};
};

// Side, family, fragment and protocol.
void Compiler::kinds() {
  struct Kind {
    unsigned sides, families, fragments;  // bits
    std::vector<uint8_t> protocols;
  };
  Grouping grouping;
  std::vector<Kind> kinds;
  std::string key;
  for (size_t number = 0; number < bits_.size(); ++number) {
    const Rule& rule = ruleset_.rules[number];
    Kind kind{.sides = rule.side ? 1U << static_cast<unsigned>(*rule.side) : 3U,
              .families = families_of(rule),
              .fragments = fragment_bits(rule.fragment),
              .protocols = protocols_of(rule)};
    std::ranges::sort(kind.protocols);
    key.clear();
    append(key, kind.sides << 16 | kind.families << 8 | kind.fragments);
    for (const uint8_t protocol : kind.protocols) append(key, protocol);
    grouping.add(bits_[number], key);
    if (grouping.groups.size() > kinds.size()) kinds.push_back(std::move(kind));
  }

  std::map<std::vector<uint32_t>, uint32_t> rows;  // by the groups that are in them
  for (unsigned side = 0; side < NK_FW_SIDES; ++side) {
    for (unsigned family = 0; family < NK_FAMILIES; ++family) {
      for (unsigned fragment = 0; fragment < NK_FRAGMENTS; ++fragment) {
        std::vector<uint32_t> any_protocol;
        std::array<std::vector<uint32_t>, NK_FW_PROTOCOLS> by_protocol;
        for (uint32_t group = 0; group < kinds.size(); ++group) {
          const Kind& kind = kinds[group];
          if ((kind.sides >> side & kind.families >> family & kind.fragments >> fragment & 1U) == 0) continue;
          if (kind.protocols.empty()) any_protocol.push_back(group);
          for (const uint8_t protocol : kind.protocols) by_protocol.at(protocol).push_back(group);
        }
        for (std::vector<uint32_t>& groups : by_protocol) {
          groups.insert(groups.end(), any_protocol.begin(), any_protocol.end());
          const auto [found, is_new] = rows.emplace(groups, 0);
          if (is_new) {
            rows_.begin(rows_.empty());
            for (const uint32_t group : groups) rows_.set(grouping.groups[group].rules);
            found->second = rows_.finish();
          }
          kinds_.push_back(static_cast<uint16_t>(services_.add(found->second)));
        }
      }
    }
  }
}

Numbers Compiler::number(uint32_t domain, const RangesOf& ranges_of) {
  Grouping grouping;
  std::string key;
  for (size_t number = 0; number < bits_.size(); ++number) {
    const uint32_t bit = bits_[number];
    const std::vector<Range> ranges = ranges_of(ruleset_.rules[number]);
    key.clear();
    for (const Range& range : ranges) append(key, range);
    if (ranges.empty())
      grouping.base.push_back(bit);
    else
      grouping.add(bit, key);
    if (!ranges.empty() && grouping.groups.back().intervals.empty())
      grouping.groups.back().intervals = intervals_of(ranges);
  }
  Numbers made;
  if (grouping.groups.empty()) return made;
  const uint32_t base = rows_.add(rows_.empty(), grouping.base);
  const std::vector<Boundary> boundaries = sweep(rows_, base, grouping.groups);
  made.table.resize(domain);
  for (size_t at = 0; at < boundaries.size(); ++at) {
    const uint64_t first = boundaries[at].first.low;
    if (first >= domain) break;  // behind the last number, where all intervals end
    const uint64_t beyond =
        at + 1 < boundaries.size() ? std::min<uint64_t>(boundaries[at + 1].first.low, domain) : domain;
    const auto number = static_cast<uint16_t>(made.classes.add(boundaries[at].row));
    std::fill(made.table.begin() + static_cast<ptrdiff_t>(first), made.table.begin() + static_cast<ptrdiff_t>(beyond),
              number);
  }
  made.absent = made.classes.add(base);
  return made;
}

void Compiler::merge(Numbers& numbers) {
  const size_t services = services_.size();
  if (numbers.table.empty() || services * numbers.classes.size() > most_merged) return;
  Classes merged;
  numbers.merged.reserve(services * numbers.classes.size());
  for (const uint32_t service : services_.rows())
    for (const uint32_t row : numbers.classes.rows())
      numbers.merged.push_back(static_cast<uint16_t>(merged.add(rows_.add_common(service, row))));
  services_ = std::move(merged);
}

void Compiler::addresses(size_t which, const std::function<const Endpoint&(const Rule&)>& endpoint_of) {
  Grouping grouping;
  std::string key;
  for (size_t number = 0; number < bits_.size(); ++number) {
    const uint32_t bit = bits_[number];
    const Endpoint& endpoint = endpoint_of(ruleset_.rules[number]);
    if (!endpoint.has_address()) {
      grouping.base.push_back(bit);
      continue;
    }
    key = endpoint.set;
    for (const Network& network : endpoint.networks) {
      append(key, network.first);
      append(key, network.family);
      append(key, network.length);
    }
    grouping.add(bit, key);
  }
  const uint32_t base = rows_.add(rows_.empty(), grouping.base);
  no_address_.at(which) = base;
  for (const bool is_ipv6 : {false, true}) {
    const Family family = is_ipv6 ? Family::ipv6 : Family::ipv4;
    for (Group& group : grouping.groups) {
      const Endpoint& endpoint = endpoint_of(ruleset_.rules[order_[group.rules.front()]]);
      group.intervals = intervals_of(networks_of(endpoint, ruleset_.sets), family);
    }
    std::vector<Boundary> boundaries = sweep(rows_, base, grouping.groups);
    // The numbers go on behind IPv4's.
    if (!is_ipv6) std::erase_if(boundaries, [](const Boundary& each) { return each.first.low >> 32 != 0; });
    boundaries_.at(which).at(is_ipv6) = std::move(boundaries);
  }
}

Tables Compiler::compile() {
  kinds();
  constexpr uint32_t flag_values = 256;
  Numbers tcp_flags = number(flag_values, [](const Rule& rule) {
    std::vector<Range> values;
    for (uint16_t flags = 0; rule.tcp_flags && flags < flag_values; ++flags)
      if ((flags & rule.tcp_flags->mask) == rule.tcp_flags->set) values.push_back({.first = flags, .last = flags});
    return values;
  });
  Numbers length = number(numbers, [](const Rule& rule) { return rule.lengths; });
  Numbers dst_port = number(numbers, dst_numbers);
  Numbers src_port = number(numbers, src_numbers);
  const std::array all{std::pair{&tcp_flags, &nk_fw_layout::tcp_flags}, std::pair{&length, &nk_fw_layout::length},
                       std::pair{&dst_port, &nk_fw_layout::dst_port}, std::pair{&src_port, &nk_fw_layout::src_port}};
  for (const auto& [each, unused] : all) merge(*each);
  addresses(0, [](const Rule& rule) -> const Endpoint& { return rule.from; });
  addresses(1, [](const Rule& rule) -> const Endpoint& { return rule.to; });

  TableWriter writer(rows_, shape_);
  writer.use(no_address_);
  writer.use(services_.rows());
  for (const auto& [each, unused] : all) writer.use(*each);
  for (const auto& families : boundaries_)
    for (const auto& boundaries : families) writer.use(boundaries);
  writer.write_rows();

  nk_fw_layout layout{};
  layout.group = static_cast<uint32_t>(shape_.group);
  layout.groups = static_cast<uint32_t>(shape_.groups);
  layout.summary = static_cast<uint32_t>(shape_.summary);
  layout.rules = static_cast<uint32_t>(ruleset_.rules.size());
  layout.kinds = writer.write(kinds_);
  for (const auto& [each, member] : all) writer.write_numbers(*each, layout.*member);
  layout.services = writer.write_places(services_.rows());
  for (size_t which = 0; which < 2; ++which) {
    layout.no_address[which] = writer.place(no_address_.at(which));
    for (const bool is_ipv6 : {false, true})
      writer.write_addresses(boundaries_.at(which).at(is_ipv6), is_ipv6, layout.addresses[which][is_ipv6]);
  }
  order_.resize(shape_.words() * 64 + 1, layout.rules);
  layout.order = writer.write(order_);
  std::vector<uint8_t> actions;
  actions.reserve(ruleset_.rules.size());
  for (const Rule& rule : ruleset_.rules) {
    const nk_action pass = rule.rate ? NK_ACTION_LIMIT : NK_ACTION_PASS;
    const unsigned action = rule.action == Action::pass ? pass : NK_ACTION_DROP;
    actions.push_back(static_cast<uint8_t>(rule.log ? action | NK_ACTION_LOG : action));
  }
  layout.actions = writer.write(actions);
  if (const std::vector<nk_fw_limit> limits = limits_of(ruleset_.rules); !limits.empty())
    layout.limits = writer.write(limits);
  return writer.finish(layout);
}

}  // namespace

Tables compile(const Ruleset& ruleset) {
  try {
    return Compiler(ruleset).compile();
  } catch (const std::length_error& error) {
    throw std::invalid_argument("the ruleset is too large: " + std::to_string(ruleset.rules.size()) +
                                " rules would take " + error.what());
  }
}

}  // namespace netkit_bpf::firewall
