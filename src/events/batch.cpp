// SPDX-License-Identifier: MIT
#include "events/batch.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "base/memory.hpp"

namespace netkit_bpf {

namespace {

[[noreturn]] void refuse(size_t row) {
  throw std::invalid_argument("row " + std::to_string(row) + " is of a pair or a side that there is not");
}

// Makes rows of a run of records and returns their number: discarded records are none. The rows may go where the run
// lies. What follows the event in a record is for `keep`.
template <typename Keep>
size_t convert(const EventBatch::Run& run, std::byte* rows, size_t pairs, Keep&& keep) {
  auto* to = reinterpret_cast<Row*>(rows);
  const std::byte* const end = run.records.data() + run.records.size();
  for (const std::byte* from = run.records.data(); from < end;) {
    const uint32_t header = *reinterpret_cast<const uint32_t*>(from);
    const std::byte* record = from;
    const size_t length = Record::length(header);
    from += Record::stride(header);
    if ((header & Record::discard_bit) != 0) continue;
    if (length < sizeof(nk_event) || from > end)
      throw std::invalid_argument("a record has " + std::to_string(length) + " bytes: it is no packet event");
    keep(EventBatch::Data(record + sizeof(Row), length - sizeof(nk_event)));
    if (reinterpret_cast<const std::byte*>(to) != record) std::memmove(to, record, sizeof(Row));
    unpack(*to, run.clock_offset_ns);
    if (to->pair >= pairs || to->side >= NK_SIDES) refuse(static_cast<size_t>(to - reinterpret_cast<Row*>(rows)));
    ++to;
  }
  return static_cast<size_t>(to - reinterpret_cast<Row*>(rows));
}

void keep_none(EventBatch::Data data) {
  if (!data.empty())
    throw std::invalid_argument("a record has " + std::to_string(sizeof(nk_event) + data.size()) + " bytes, not " +
                                std::to_string(sizeof(nk_event)));
}

// Bytes that the rows and the data of some runs take; rather too many.
struct Need {
  size_t rows = 0;
  size_t data = 0;

  explicit Need(std::span<const EventBatch::Run> runs) {
    for (const EventBatch::Run& run : runs) {
      for (size_t at = 0; at < run.records.size();) {
        const uint32_t header = *reinterpret_cast<const uint32_t*>(run.records.data() + at);
        at += Record::stride(header);
        rows += sizeof(Row);
        data += std::max<size_t>(Record::length(header), sizeof(nk_event)) - sizeof(nk_event);
      }
    }
  }
};

// Puts the data of packets end to end.
class Appender {
 public:
  Appender(std::byte* to, std::vector<EventBatch::Data>& data) : to_(to), data_(data) {}
  void operator()(EventBatch::Data data) {
    std::ranges::copy(data, to_);
    data_.emplace_back(to_, data.size());
    to_ += data.size();
  }

 private:
  std::byte* to_;
  std::vector<EventBatch::Data>& data_;
};

// Adds the names that are not there; returns each one's number, or nothing if these are the first numbers.
std::vector<uint16_t> renumber(const std::vector<std::string>& names, std::vector<std::string>& all) {
  if (names.size() <= all.size() && std::equal(names.begin(), names.end(), all.begin())) return {};
  std::vector<uint16_t> numbers;
  for (const std::string& name : names) {
    const auto at = std::find(all.begin(), all.end(), name);
    numbers.push_back(static_cast<uint16_t>(at - all.begin()));
    if (at == all.end()) all.push_back(name);
  }
  return numbers;
}

}  // namespace

EventBatch::EventBatch(Run run, const std::shared_ptr<const void>& owner, Names names)
    : rows_(owner, run.records.data()),
      size_(convert(run, run.records.data(), names->size(), keep_none)),
      names_(std::move(names)) {}

EventBatch::EventBatch(std::span<const Run> runs, bool with_data, Names names) : names_(std::move(names)) {
  const Need need(runs);
  const std::shared_ptr<std::byte> rows = allocate(need.rows);
  const auto convert_all = [&](auto&& keep) {
    for (const Run& run : runs) size_ += convert(run, rows.get() + size_ * sizeof(Row), names_->size(), keep);
  };
  if (with_data) {
    const std::shared_ptr<std::byte> memory = allocate(need.data);
    const auto packets = std::make_shared<Packets>();
    packets->owners.push_back(memory);
    packets->data.reserve(need.rows / sizeof(Row));
    convert_all(Appender(memory.get(), packets->data));
    packets_ = packets;
  } else {
    convert_all(keep_none);
  }
  rows_ = rows;
}

EventBatch EventBatch::from_rows(std::span<const std::byte> rows, std::optional<std::span<const Data>> data,
                                 Names names) {
  EventBatch batch;
  batch.names_ = std::move(names);
  batch.size_ = rows.size() / sizeof(Row);
  if (rows.size() % sizeof(Row) != 0)
    throw std::invalid_argument(std::to_string(rows.size()) + " bytes are no rows of " + std::to_string(sizeof(Row)));
  if (data && data->size() != batch.size_)
    throw std::invalid_argument("there are " + std::to_string(batch.size_) + " rows, and data of " +
                                std::to_string(data->size()));
  const std::shared_ptr<std::byte> copy = allocate(rows.size());
  std::ranges::copy(rows, copy.get());
  batch.rows_ = copy;
  for (size_t i = 0; i < batch.size_; ++i)
    if (batch[i].pair >= batch.names_->size() || batch[i].side >= NK_SIDES) refuse(i);
  if (!data) return batch;

  size_t total = 0;
  for (const Data& each : *data) total += each.size();
  const std::shared_ptr<std::byte> memory = allocate(total);
  const auto packets = std::make_shared<Packets>();
  packets->owners.push_back(memory);
  std::ranges::for_each(*data, Appender(memory.get(), packets->data));
  batch.packets_ = packets;
  return batch;
}

EventBatch EventBatch::concat(std::span<const EventBatch> parts) {
  EventBatch whole;
  auto names = std::make_shared<std::vector<std::string>>();
  const auto packets = std::make_shared<Packets>();
  if (!parts.empty()) *names = *parts[0].names_;
  for (const EventBatch& part : parts) whole.size_ += part.size_;
  const std::shared_ptr<std::byte> rows = allocate(whole.size_ * sizeof(Row));
  std::byte* to = rows.get();
  for (const EventBatch& part : parts) {
    std::ranges::copy(part.bytes(), to);
    const std::vector<uint16_t> numbers = renumber(*part.names_, *names);
    for (size_t i = 0; !numbers.empty() && i < part.size_; ++i) {
      Row& row = reinterpret_cast<Row*>(to)[i];
      row.pair = numbers[row.pair];
    }
    to += part.bytes().size();
    packets->owners.push_back(part.packets_);
    for (size_t i = 0; i < part.size_; ++i) packets->data.push_back(part.data(i));
  }
  whole.rows_ = rows;
  whole.names_ = std::move(names);
  if (std::ranges::any_of(parts, &EventBatch::has_data)) whole.packets_ = packets;
  return whole;
}

template <typename IndexOf>
EventBatch EventBatch::copy(size_t size, IndexOf index_of) const {
  EventBatch part;
  part.size_ = size;
  part.names_ = names_;
  const std::shared_ptr<std::byte> rows = allocate(size * sizeof(Row));
  const auto packets = std::make_shared<Packets>();
  packets->owners.push_back(packets_);
  for (size_t i = 0; i < size; ++i) {
    const size_t index = index_of(i);
    reinterpret_cast<Row*>(rows.get())[i] = (*this)[index];
    if (packets_) packets->data.push_back(data(index));
  }
  part.rows_ = rows;
  if (packets_) part.packets_ = packets;
  return part;
}

EventBatch EventBatch::slice(size_t first, ptrdiff_t step, size_t size) const {
  // Wraps as it must for a negative step.
  if (step != 1) return copy(size, [&](size_t i) { return first + i * static_cast<size_t>(step); });
  EventBatch part = *this;
  part.size_ = size;
  part.first_ += size == 0 ? 0 : first;
  part.rows_ = {rows_, rows_.get() + (size == 0 ? 0 : first * sizeof(Row))};
  return part;
}

EventBatch EventBatch::select(std::span<const std::byte> mask) const {
  size_t next = 0;
  return copy(size_ - static_cast<size_t>(std::ranges::count(mask, std::byte{0})), [&](size_t) {
    while (mask[next] == std::byte{0}) ++next;
    return next++;
  });
}

bool EventBatch::operator==(const EventBatch& other) const {
  if (size_ != other.size_ || has_data() != other.has_data() || *names_ != *other.names_) return false;
  for (size_t i = 0; i < size_; ++i)
    if (!std::ranges::equal(data(i), other.data(i))) return false;
  return std::ranges::equal(bytes(), other.bytes());
}

}  // namespace netkit_bpf
