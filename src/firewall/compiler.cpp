// SPDX-License-Identifier: MIT
#include "firewall/compiler.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "firewall/rows.hpp"

namespace netkit_bpf::firewall {

namespace {

constexpr size_t most_merged = 16384;  // combinations of a service and a number; more would not stay in a cache
constexpr uint32_t roots = 65536;
constexpr uint32_t numbers = 65536;

size_t words_for(size_t bits) { return std::max<size_t>(1, (bits + 63) / 64); }

unsigned fragment_bits(std::optional<Fragment> fragment) {
  constexpr unsigned first = 1U << NK_FIRST;
  constexpr unsigned later = 1U << NK_LATER;
  if (!fragment) return 1U << NK_WHOLE | first | later;
  if (*fragment == Fragment::any) return first | later;
  return *fragment == Fragment::first ? first : later;
}

// Rows as classes: numbers that begin with 0.
class Classes {
 public:
  uint32_t add(uint32_t row) {
    const auto [found, is_new] = classes_.emplace(row, static_cast<uint32_t>(rows_.size()));
    if (is_new) rows_.push_back(row);
    return found->second;
  }
  [[nodiscard]] const std::vector<uint32_t>& rows() const { return rows_; }
  [[nodiscard]] size_t size() const { return rows_.size(); }

 private:
  std::unordered_map<uint32_t, uint32_t> classes_;
  std::vector<uint32_t> rows_;
};

// Rules by what they ask, and those that ask nothing.
template <typename Key>
class Grouping {
 public:
  explicit Grouping(size_t words) : base(words) {}

  void add(uint32_t rule, const Key& key) {
    const auto [found, is_new] = numbers_.emplace(key, groups.size());
    if (is_new) groups.emplace_back();
    groups[found->second].rules.push_back(rule);
  }
  // The keys, each with its group.
  [[nodiscard]] const std::map<Key, size_t>& keys() const { return numbers_; }

  Words base;
  std::vector<Group> groups;

 private:
  std::map<Key, size_t> numbers_;
};

struct Numbers {
  std::vector<uint16_t> table;
  Classes classes;
  uint32_t absent = 0;
  std::vector<uint16_t> merged;
};

class Compiler {
 public:
  explicit Compiler(const Ruleset& ruleset)
      : ruleset_(ruleset),
        words_(words_for(ruleset.rules.size())),
        summary_(words_ > 1 ? words_for(words_) : 0),
        rows_(words_, NK_FW_MAX_SIZE) {}

  Tables compile();

 private:
  using RangesOf = std::function<std::vector<std::pair<uint32_t, uint32_t>>(const Rule&)>;

  void kinds();
  Numbers number(uint32_t domain, const RangesOf& ranges_of);
  void merge(Numbers& numbers);
  void addresses(size_t which, const std::function<const Endpoint&(const Rule&)>& endpoint_of);

  // What is written is named by offsets, so the rows, whose number shows last, come first.
  void use(std::span<const uint32_t> rows);
  uint32_t place(uint32_t row) const { return places_.at(row); }
  uint32_t write(const void* data, size_t size);
  template <typename Item>
  uint32_t write(const std::vector<Item>& items) {
    return write(items.data(), items.size() * sizeof(Item));
  }
  uint32_t write_places(std::span<const uint32_t> rows);
  void write_rows();
  void write_number(const Numbers& numbers, nk_fw_numbers& layout);
  void write_addresses(std::span<const Boundary> boundaries, bool is_ipv6, nk_fw_addresses& layout);

  const Ruleset& ruleset_;
  size_t words_;
  size_t summary_;
  Rows rows_;
  std::vector<uint16_t> kinds_;
  Classes services_;
  std::array<std::array<std::vector<Boundary>, 2>, 2> boundaries_;
  std::array<uint32_t, 2> no_address_{};

  Tables tables_;
  std::unordered_map<uint32_t, uint32_t> places_;
  std::vector<uint32_t> used_;
};

// Side, family, fragment and protocol.
void Compiler::kinds() {
  using Key = std::tuple<unsigned, unsigned, unsigned, std::vector<uint8_t>>;  // bits of sides, families, fragments
  Grouping<Key> grouping(words_);
  for (uint32_t number = 0; number < ruleset_.rules.size(); ++number) {
    const Rule& rule = ruleset_.rules[number];
    const unsigned fragments = fragment_bits(rule.fragment);
    const unsigned sides = rule.side ? 1U << static_cast<unsigned>(*rule.side) : 3U;
    std::vector<uint8_t> protocols = protocols_of(rule);
    std::ranges::sort(protocols);
    grouping.add(number, {sides, families_of(rule), fragments, std::move(protocols)});
  }

  Sweep sweep(rows_, grouping.base, grouping.groups);
  const size_t group_words = words_for(grouping.groups.size());
  for (unsigned side = 0; side < NK_FW_SIDES; ++side) {
    for (unsigned family = 0; family < NK_FAMILIES; ++family) {
      for (unsigned fragment = 0; fragment < NK_FRAGMENTS; ++fragment) {
        Words any_protocol(group_words);
        std::array<std::vector<size_t>, NK_FW_PROTOCOLS> by_protocol;
        for (const auto& [key, group] : grouping.keys()) {
          const auto& [sides, families, fragments, protocols] = key;
          if ((sides >> side & families >> family & fragments >> fragment & 1U) == 0) continue;
          if (protocols.empty()) set_bit(any_protocol, group);
          for (const uint8_t protocol : protocols) by_protocol.at(protocol).push_back(group);
        }
        for (const std::vector<size_t>& groups : by_protocol) {
          Words active = any_protocol;
          for (const size_t group : groups) set_bit(active, group);
          kinds_.push_back(static_cast<uint16_t>(services_.add(sweep.row_of(active))));
        }
      }
    }
  }
}

Numbers Compiler::number(uint32_t domain, const RangesOf& ranges_of) {
  using Key = std::vector<std::pair<uint32_t, uint32_t>>;
  Grouping<Key> grouping(words_);
  for (uint32_t number = 0; number < ruleset_.rules.size(); ++number) {
    const Key ranges = ranges_of(ruleset_.rules[number]);
    if (ranges.empty())
      set_bit(grouping.base, number);
    else
      grouping.add(number, ranges);
  }
  Numbers made;
  if (grouping.groups.empty()) return made;
  for (const auto& [ranges, group] : grouping.keys()) {
    Intervals intervals;
    for (const auto& [first, last] : ranges) intervals.push_back({{0, first}, {0, last}});
    grouping.groups[group].intervals = joined(std::move(intervals));
  }
  Sweep sweep(rows_, grouping.base, grouping.groups);
  const std::vector<Boundary> boundaries = sweep.boundaries();
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
  made.absent = made.classes.add(rows_.add(grouping.base));
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
  using Key = std::pair<std::string, std::vector<std::tuple<Family, Address, uint8_t>>>;
  Grouping<Key> grouping(words_);
  for (uint32_t number = 0; number < ruleset_.rules.size(); ++number) {
    const Endpoint& endpoint = endpoint_of(ruleset_.rules[number]);
    if (!endpoint.has_address()) {
      set_bit(grouping.base, number);
      continue;
    }
    Key key{endpoint.set, {}};
    for (const Network& network : endpoint.networks)
      key.second.emplace_back(network.family, network.first, network.length);
    grouping.add(number, key);
  }
  no_address_.at(which) = rows_.add(grouping.base);
  for (const bool is_ipv6 : {false, true}) {
    const Family family = is_ipv6 ? Family::ipv6 : Family::ipv4;
    for (Group& group : grouping.groups) {
      const Endpoint& endpoint = endpoint_of(ruleset_.rules[group.rules.front()]);
      group.intervals = intervals_of(networks_of(endpoint, ruleset_.sets), family);
    }
    Sweep sweep(rows_, grouping.base, grouping.groups);
    std::vector<Boundary> boundaries = sweep.boundaries();
    // The numbers go on behind IPv4's.
    if (!is_ipv6) std::erase_if(boundaries, [](const Boundary& each) { return each.first.low >> 32 != 0; });
    boundaries_.at(which).at(is_ipv6) = std::move(boundaries);
  }
}

void Compiler::use(std::span<const uint32_t> rows) {
  for (const uint32_t row : rows) {
    if (places_.emplace(row, static_cast<uint32_t>(used_.size() * (summary_ + words_))).second) used_.push_back(row);
  }
}

uint32_t Compiler::write(const void* data, size_t size) {
  std::vector<uint8_t>& bytes = tables_.bytes;
  bytes.resize((bytes.size() + 15) / 16 * 16);
  const size_t offset = bytes.size();
  if (offset + size > NK_FW_MAX_SIZE) throw std::length_error("more than 256 MiB of tables");
  const auto* from = static_cast<const uint8_t*>(data);
  bytes.insert(bytes.end(), from, from + size);
  return static_cast<uint32_t>(offset);
}

uint32_t Compiler::write_places(std::span<const uint32_t> rows) {
  std::vector<uint32_t> places;
  for (const uint32_t row : rows) places.push_back(place(row));
  return write(places);
}

void Compiler::write_rows() {
  const size_t stride = summary_ + words_;
  const size_t size = used_.size() * stride * sizeof(uint64_t);
  if (size > NK_FW_MAX_SIZE) throw std::length_error("more than 256 MiB of rows");
  tables_.bytes.reserve(size + (4 << 20));
  tables_.bytes.resize(size);
  Words summary(summary_);
  for (size_t at = 0; at < used_.size(); ++at) {
    const std::span<const uint64_t> row = rows_[used_[at]];
    uint8_t* to = &tables_.bytes[at * stride * sizeof(uint64_t)];
    if (summary_ > 0) {
      std::ranges::fill(summary, 0);
      for (size_t word = 0; word < words_; ++word)
        if (row[word] != 0) set_bit(summary, word);
      std::memcpy(to, summary.data(), summary_ * sizeof(uint64_t));
      to += summary_ * sizeof(uint64_t);
    }
    std::memcpy(to, row.data(), row.size_bytes());
  }
}

void Compiler::write_number(const Numbers& numbers, nk_fw_numbers& layout) {
  if (numbers.table.empty()) return;
  layout.classes = static_cast<uint32_t>(numbers.classes.size());
  layout.table = write(numbers.table);
  layout.absent = numbers.absent;
  if (!numbers.merged.empty())
    layout.merged = write(numbers.merged);
  else
    layout.rows = write_places(numbers.classes.rows());
}

// A root entry for each of the first 16 bits, and the boundaries among the addresses that share them: a power of two of
// them, the last one repeated, so that the search needs no end.
void Compiler::write_addresses(std::span<const Boundary> boundaries, bool is_ipv6, nk_fw_addresses& layout) {
  if (boundaries.size() == 1) {
    layout.rows = place(boundaries[0].row);
    return;
  }
  const auto root_of = [is_ipv6](const Address& address) {
    return static_cast<uint32_t>(is_ipv6 ? address.high >> 48 : address.low >> 16);
  };
  std::vector<uint32_t> root(roots);
  std::vector<uint16_t> low;
  std::vector<nk_fw_bound> bounds;
  std::vector<uint32_t> rows;
  std::unordered_map<uint32_t, uint32_t> whole;  // by row, the position of a root entry without boundaries
  size_t next = 0;
  uint32_t row = boundaries[0].row;
  for (uint32_t entry = 0; entry < roots; ++entry) {
    const size_t first = next;
    while (next < boundaries.size() && root_of(boundaries[next].first) == entry) ++next;
    const Address start =
        is_ipv6 ? Address{.high = uint64_t{entry} << 48, .low = 0} : Address{.high = 0, .low = uint64_t{entry} << 16};
    const bool begins_here = first < next && boundaries[first].first == start;
    const size_t inside = next - first + (begins_here ? 0 : 1);
    const auto position = static_cast<uint32_t>(rows.size());
    if (inside == 1) {
      if (begins_here) row = boundaries[first].row;
      const auto [found, is_new] = whole.emplace(row, position);
      root[entry] = found->second;
      if (!is_new) continue;
    }
    const size_t slots = std::bit_ceil(inside);
    const auto steps = static_cast<uint32_t>(std::countr_zero(slots));
    if (steps > NK_FW_STEPS || rows.size() + slots >= 1U << NK_FW_POSITION)
      throw std::length_error("more than a million boundaries of addresses that share 16 bits");
    if (inside > 1) root[entry] = position | steps << NK_FW_POSITION;
    const auto add = [&](const Address& from, uint32_t of) {
      if (is_ipv6)
        bounds.push_back({.high = from.high, .low = from.low});
      else
        low.push_back(static_cast<uint16_t>(from.low));
      rows.push_back(place(of));
    };
    if (!begins_here) add(start, row);
    for (size_t at = first; at < next; ++at) {
      row = boundaries[at].row;
      add(boundaries[at].first, row);
    }
    const Address end{.high = ~uint64_t{0}, .low = ~uint64_t{0}};
    for (size_t at = inside; at < slots; ++at) add(end, row);
  }
  layout.root = write(root);
  layout.bounds = is_ipv6 ? write(bounds) : write(low);
  layout.rows = write(rows);
}

Tables Compiler::compile() {
  using Ranges = std::vector<std::pair<uint32_t, uint32_t>>;
  const auto pairs_of = [](const std::vector<Range>& ranges) {
    Ranges pairs;
    for (const Range& range : ranges) pairs.emplace_back(range.first, range.last);
    std::ranges::sort(pairs);
    return pairs;
  };
  kinds();
  constexpr uint32_t flag_values = 256;
  Numbers tcp_flags = number(flag_values, [](const Rule& rule) {
    Ranges values;
    for (uint32_t flags = 0; rule.tcp_flags && flags < flag_values; ++flags)
      if ((flags & rule.tcp_flags->mask) == rule.tcp_flags->set) values.emplace_back(flags, flags);
    return values;
  });
  Numbers length = number(numbers, [&](const Rule& rule) { return pairs_of(rule.lengths); });
  Numbers dst_port = number(numbers, [&](const Rule& rule) { return pairs_of(dst_numbers(rule)); });
  Numbers src_port = number(numbers, [&](const Rule& rule) { return pairs_of(src_numbers(rule)); });
  const std::array all{std::pair{&tcp_flags, &nk_fw_layout::tcp_flags}, std::pair{&length, &nk_fw_layout::length},
                       std::pair{&dst_port, &nk_fw_layout::dst_port}, std::pair{&src_port, &nk_fw_layout::src_port}};
  for (const auto& [each, unused] : all) merge(*each);
  addresses(0, [](const Rule& rule) -> const Endpoint& { return rule.from; });
  addresses(1, [](const Rule& rule) -> const Endpoint& { return rule.to; });

  use(no_address_);
  use(services_.rows());
  for (const auto& [each, unused] : all)
    if (each->merged.empty()) use(each->classes.rows());
  for (const auto& families : boundaries_)
    for (const auto& boundaries : families)
      for (const Boundary& each : boundaries) use({&each.row, 1});

  nk_fw_layout& layout = tables_.layout;
  write_rows();
  layout.words = static_cast<uint32_t>(words_);
  layout.summary = static_cast<uint32_t>(summary_);
  layout.rules = static_cast<uint32_t>(ruleset_.rules.size());
  layout.kinds = write(kinds_);
  for (const auto& [each, member] : all) write_number(*each, layout.*member);
  layout.services = write_places(services_.rows());
  for (size_t which = 0; which < 2; ++which) {
    layout.no_address[which] = place(no_address_.at(which));
    for (const bool is_ipv6 : {false, true})
      write_addresses(boundaries_.at(which).at(is_ipv6), is_ipv6, layout.addresses[which][is_ipv6]);
  }
  std::vector<uint8_t> actions;
  actions.reserve(ruleset_.rules.size());
  for (const Rule& rule : ruleset_.rules)
    actions.push_back(rule.action == Action::pass ? NK_ACTION_PASS : NK_ACTION_DROP);
  layout.actions = write(actions);

  constexpr size_t widest = 16;  // bytes that are read at once
  layout.last = static_cast<uint32_t>(tables_.bytes.size());
  tables_.bytes.resize((tables_.bytes.size() + widest + 7) / 8 * 8);
  return std::move(tables_);
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
