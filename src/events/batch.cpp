// SPDX-License-Identifier: MIT
#include "events/batch.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "events/memory.hpp"

namespace netkit_bpf {

namespace {

[[noreturn]] void refuse(size_t row) {
  throw std::invalid_argument("row " + std::to_string(row) + " names an unknown pair or side");
}

// Why a record cannot be a row; empty if it can.
std::string why_not(const Record& record, size_t pairs, bool with_data) {
  const size_t length = record.data().size();
  if (length < sizeof(nk_event)) return "a record has " + std::to_string(length) + " bytes: it is not a packet event";
  if (length > sizeof(nk_event) && !with_data)
    return "a record has " + std::to_string(length) + " bytes, not " + std::to_string(sizeof(nk_event));
  const auto& event = *reinterpret_cast<const nk_event*>(record.data().data());
  if (event.pair >= pairs || event.side >= NK_SIDES)
    return "a record is of pair " + std::to_string(event.pair) + " of " + std::to_string(pairs) + " and side " +
           std::to_string(event.side);
  return {};
}

bool is_row(const Record& record, size_t pairs, bool with_data) {
  const size_t length = record.data().size();
  if (length < sizeof(nk_event) || (length > sizeof(nk_event) && !with_data)) return false;
  const auto& event = *reinterpret_cast<const nk_event*>(record.data().data());
  return event.pair < pairs && event.side < NK_SIDES;
}

// Makes rows from the records of a run, up to the first that cannot be one, and returns their number. The rows may
// overwrite the run. `keep`, if any, gets what follows the event in each record.
template <typename Keep>
size_t convert(const EventBatch::Input& input, std::byte* rows, size_t pairs, EventBatch::Refused& refused,
               Keep* keep) {
  auto* to = reinterpret_cast<Row*>(rows);
  auto next = Records(input.records).begin();
  for (; next != Records::end(); ++next) {
    const Record& record = *next;
    if (!is_row(record, pairs, keep != nullptr)) {
      refused.why = why_not(record, pairs, keep != nullptr);
      refused.start = static_cast<size_t>(record.start - input.records.data());
      refused.end = refused.start + record.stride();
      break;
    }
    if (keep != nullptr) (*keep)(record.data().subspan(sizeof(nk_event)));
    if (reinterpret_cast<const std::byte*>(to) != record.start) std::memmove(to, record.start, sizeof(Row));
    unpack(*to, input.clock_offset_ns);
    ++to;
  }
  if (next.cut() != nullptr) {
    refused.why = "a record is cut short: it is not a packet event";
    refused.start = static_cast<size_t>(next.cut() - input.records.data());
    refused.end = input.records.size();
  }
  return static_cast<size_t>(to - reinterpret_cast<Row*>(rows));
}

// The bytes that the rows and the data of some runs take, rounded up.
struct Need {
  size_t rows = 0;
  size_t data = 0;

  explicit Need(std::span<const EventBatch::Input> inputs) {
    for (const EventBatch::Input& input : inputs) {
      for (const Record& record : Records(input.records)) {
        rows += sizeof(Row);
        data += std::max(record.data().size(), sizeof(nk_event)) - sizeof(nk_event);
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

// Adds the missing names; returns the number of each, or nothing if they are the first numbers in order.
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

EventBatch::EventBatch(Input input, const std::shared_ptr<const void>& owner, Names names, Refused& refused)
    : rows_(owner, input.records.data()),
      size_(convert<Appender>(input, input.records.data(), names->size(), refused, nullptr)),
      names_(std::move(names)) {}

EventBatch::EventBatch(std::span<const Input> inputs, bool with_data, Names names, Refused& refused)
    : names_(std::move(names)) {
  const Need need(inputs);
  const std::shared_ptr<std::byte> rows = allocate(need.rows);
  const auto convert_all = [&](Appender* keep) {
    for (refused.input = 0; refused.input < inputs.size(); ++refused.input) {
      std::byte* const to = rows.get() + size_ * sizeof(Row);
      size_ += convert(inputs[refused.input], to, names_->size(), refused, keep);
      if (!refused.why.empty()) break;
    }
  };
  if (with_data) {
    const std::shared_ptr<std::byte> memory = allocate(need.data);
    const auto packets = std::make_shared<Packets>();
    packets->owners.push_back(memory);
    packets->data.reserve(need.rows / sizeof(Row));
    Appender keep(memory.get(), packets->data);
    convert_all(&keep);
    packets_ = packets;
  } else {
    convert_all(nullptr);
  }
  rows_ = rows;
}

EventBatch EventBatch::from_rows(std::span<const std::byte> rows, std::optional<std::span<const Data>> data,
                                 Names names) {
  EventBatch batch;
  batch.names_ = std::move(names);
  batch.size_ = rows.size() / sizeof(Row);
  if (rows.size() % sizeof(Row) != 0)
    throw std::invalid_argument(std::to_string(rows.size()) + " bytes are not whole rows of " +
                                std::to_string(sizeof(Row)));
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
