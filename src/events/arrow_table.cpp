// SPDX-License-Identifier: MIT
#include "events/arrow_table.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/side.hpp"
#include "events/address_index.hpp"
#include "events/arrow_stream.hpp"
#include "events/fields.hpp"
#include "events/memory.hpp"
#include "events/summary_line.hpp"

namespace netkit_bpf::table {

namespace {

using arrow::Array;
using arrow::make_array;
using arrow::make_binary;
using arrow::make_schema;
using arrow::make_texts;
using arrow::Memory;
using arrow::move_out;
using arrow::Schema;

struct Column {
  const char* name;
  const char* format;  // of the values, or of the indices into a dictionary
  size_t width;        // bytes of a value; 0: a bit
  Field::Type type;
  Validity validity;
  void (*gather)(const Row* row, size_t rows, std::byte* to);  // null: not copied
};

// Copies field number i of each row into a column. Written by hand because the compiler's loop spends as much time on
// counting as on copying.
template <size_t i, typename From, typename To>
void gather(const Row* row, size_t rows, std::byte* to) {
  static_assert(sizeof(From) == fields::all[i].size);
  auto* const values = reinterpret_cast<To*>(to);
#pragma GCC unroll 4
  for (size_t k = 0; k < rows; ++k) {
    From value;
    std::memcpy(&value, reinterpret_cast<const std::byte*>(row + k) + fields::all[i].offset, sizeof(value));
    values[k] = static_cast<To>(value);
  }
}

template <size_t i>
constexpr Column make_column() {
  constexpr Field field = fields::all[i];
  const auto column = [&](const char* format, size_t width, auto gather_it) {
    return Column{field.name, format, width, field.type, field.validity, gather_it};
  };
  using Gather = void (*)(const Row*, size_t, std::byte*);
  using Type = Field::Type;
  if constexpr (field.type == Type::time) {
    return column("tsn:UTC", 8, gather<i, int64_t, int64_t>);
  } else if constexpr (field.type == Type::pair) {
    return column("i", 4, gather<i, uint16_t, int32_t>);
  } else if constexpr (field.type == Type::side) {
    return column("c", 1, gather<i, uint8_t, int8_t>);
  } else if constexpr (field.type == Type::address) {
    return column("i", 4, Gather{});
  } else if constexpr (field.type == Type::truth) {
    return column("b", 0, Gather{});
  } else if constexpr (field.size == sizeof(uint8_t)) {
    return column("C", 1, gather<i, uint8_t, uint8_t>);
  } else if constexpr (field.size == sizeof(uint16_t)) {
    return column("S", 2, gather<i, uint16_t, uint16_t>);
  } else {
    return column("I", 4, gather<i, uint32_t, uint32_t>);
  }
}

constexpr auto columns = fields::for_each_of<Field::arrow>([]<size_t i> { return make_column<i>(); });

// Where the column of a name is. The table has two of addresses and one of truths.
consteval size_t column_of(std::string_view name) {
  for (size_t i = 0; i < columns.size(); ++i)
    if (columns.at(i).name == name) return i;
  throw std::out_of_range("there is no such column");
}
constexpr size_t src_column = column_of("src");
constexpr size_t dst_column = column_of("dst");
constexpr size_t more_column = column_of("fragment_more");

bool is_dictionary(size_t column) {
  const Field::Type type = columns.at(column).type;
  return type == Field::Type::pair || type == Field::Type::side || type == Field::Type::address;
}

constexpr auto bitmaps = static_cast<size_t>(Validity::always);
constexpr size_t bitmaps_of_flags = 8;

int64_t ones(const Memory& bitmap, size_t size) {
  int64_t sum = 0;
  for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bitmap.get() + i, std::min(sizeof(word), size - i));
    sum += std::popcount(word);
  }
  return sum;
}

std::vector<std::string> texts_of(const AddressIndex& addresses) {
  std::vector<std::string> texts;
  texts.reserve(addresses.all().size());
  for (const AddressIndex::Address& address : addresses.all()) {
    nk_event event{};
    event.ip_word = uint32_t{address.family} << 28;
    std::memcpy(&event.src[0], address.bytes.data(), sizeof(event.src));
    texts.push_back(format_address(event, event.src));
  }
  return texts;
}

// The table of a batch, while it is made. Rows are taken in groups, so that all columns find them in the cache.
class Table {
 public:
  explicit Table(const EventBatch& batch) : batch_(batch) {
    for (size_t i = 0; i < columns.size(); ++i)
      values_[i] = allocate(columns[i].width == 0 ? bitmap_size() : columns[i].width * batch.size());
    for (Memory& bitmap : valid_) bitmap = allocate(bitmap_size());
    for (size_t first = 0; first < batch.size(); first += at_a_time)
      take(first, std::min(at_a_time, batch.size() - first));
  }

  Array finish() {
    const auto rows = static_cast<int64_t>(batch_.size());
    std::array<int64_t, bitmaps> nulls{};
    for (size_t i = 0; i < bitmaps; ++i) nulls[i] = rows - ones(valid_[i], bitmap_size());
    std::vector<Array> children;
    for (size_t i = 0; i < columns.size(); ++i) {
      const auto validity = static_cast<size_t>(columns[i].validity);
      const int64_t null_count = validity == bitmaps ? 0 : nulls.at(validity);
      const Memory valid = null_count == 0 ? nullptr : valid_.at(validity);
      children.push_back(make_array(rows, null_count, {valid, std::move(values_[i])}, dictionary(i)));
    }
    if (batch_.has_data()) children.push_back(make_binary(batch_.size(), [&](size_t i) { return batch_.data(i); }));
    return make_array(rows, 0, {nullptr}, {}, std::move(children));
  }

 private:
  static constexpr size_t at_a_time = 256;  // rows: what fits the first-level cache

  [[nodiscard]] size_t bitmap_size() const { return (batch_.size() + 7) / 8; }

  void take(size_t first, size_t rows) {
    const Row* row = &batch_[first];
    for (size_t i = 0; i < columns.size(); ++i)
      if (columns[i].gather != nullptr) columns[i].gather(row, rows, values_[i].get() + first * columns[i].width);
    number_addresses(first, rows);
    for (size_t i = 0; i < rows; i += 8) take_bits(first + i, std::min<size_t>(8, rows - i));
  }

  void number_addresses(size_t first, size_t rows) {
    auto* const src = reinterpret_cast<int32_t*>(values_[src_column].get());
    auto* const dst = reinterpret_cast<int32_t*>(values_[dst_column].get());
    for (size_t i = first; i < first + rows; ++i) {
      const Row& row = batch_[i];
      __builtin_prefetch(reinterpret_cast<const std::byte*>(&row) + at_a_time * sizeof(Row));  // the next rows to take
      src[i] = row.family == 0 ? 0 : src_.number_of(row.src, row.family);
      dst[i] = row.family == 0 ? 0 : dst_.number_of(row.dst, row.family);
    }
  }

  // Takes up to eight rows: one bit each in every bitmap.
  void take_bits(size_t first, size_t rows) {
    uint64_t flags = 0;  // a byte for each row
    uint64_t echo = 0;
    uint64_t more = 0;
    constexpr auto ipv6_bit = static_cast<size_t>(Validity::ipv6);
    constexpr auto echo_bit = static_cast<size_t>(Validity::echo);
    static_assert(echo_bit == bitmaps_of_flags, "the one beyond a byte");
    for (size_t i = 0; i < rows; ++i) {
      const Row& row = batch_[first + i];
      const auto own = static_cast<uint64_t>(row.flags & 0xff & ~NK_TAG_BESIDE);
      flags |= own << 8 * i | uint64_t{row.family == 6} << (8 * i + ipv6_bit);
      echo |= uint64_t{row.flags} >> echo_bit << i;
      more |= uint64_t{row.fragment_more} << i;
    }
    // Transposes the matrix of bits, so that a byte is a flag and a bit a row: single bits, pairs and fours are
    // swapped.
    uint64_t swap = (flags ^ flags >> 7) & 0x00aa00aa00aa00aaU;
    flags ^= swap ^ swap << 7;
    swap = (flags ^ flags >> 14) & 0x0000cccc0000ccccU;
    flags ^= swap ^ swap << 14;
    swap = (flags ^ flags >> 28) & 0x00000000f0f0f0f0U;
    flags ^= swap ^ swap << 28;
    for (size_t i = 0; i < bitmaps_of_flags; ++i) valid_[i].get()[first / 8] = std::byte(flags >> 8 * i & 0xff);
    valid_[echo_bit].get()[first / 8] = std::byte(echo & 0xff);
    values_[more_column].get()[first / 8] = std::byte(more);
  }

  Array dictionary(size_t column) {
    switch (columns.at(column).type) {
      case Field::Type::pair:
        return make_texts(*batch_.names());
      case Field::Type::side:
        return make_texts({name_of(Side::primary), name_of(Side::peer)});
      case Field::Type::address:
        return make_texts(texts_of(column == src_column ? src_ : dst_));
      default:
        return {};
    }
  }

  const EventBatch& batch_;
  std::array<Memory, columns.size()> values_;
  std::array<Memory, bitmaps> valid_;
  AddressIndex src_;
  AddressIndex dst_;
};

Schema table_schema(const EventBatch& batch) {
  std::vector<Schema> fields;
  for (size_t i = 0; i < columns.size(); ++i) {
    const Column& column = columns.at(i);
    fields.push_back(make_schema(column.format, column.name,
                                 column.validity == Validity::always ? 0 : ARROW_FLAG_NULLABLE,
                                 is_dictionary(i) ? make_schema("U", "", 0) : Schema()));
  }
  if (batch.has_data()) fields.push_back(make_schema("Z", "data", 0));
  return make_schema("+s", "", 0, {}, std::move(fields));
}

}  // namespace

void export_schema(const EventBatch& batch, ArrowSchema* out) { move_out(table_schema(batch), out); }

void export_array(const EventBatch& batch, ArrowArray* out) { move_out(Table(batch).finish(), out); }

void export_stream(const EventBatch& batch, ArrowArrayStream* out) {
  arrow::export_stream<export_schema, export_array>(batch, out);
}

}  // namespace netkit_bpf::table
