// SPDX-License-Identifier: MIT
#include "events/arrow_table.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <exception>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/memory.hpp"
#include "bpf/hook.hpp"
#include "events/address_index.hpp"
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

// Which rows have a value: the bit in the flags of a row; that of NK_TAG_BESIDE, for which there is no column, stands
// for IPv6.
enum Validity : uint8_t { if_ip, if_protocol, if_ports, if_tcp, if_icmp, if_fragment, if_vlan, if_ipv6, always };
constexpr size_t bitmaps = always;
static_assert(NK_IP == 1 << if_ip && NK_PROTOCOL == 1 << if_protocol && NK_PORTS == 1 << if_ports &&
              NK_TCP == 1 << if_tcp && NK_ICMP == 1 << if_icmp && NK_FRAGMENT == 1 << if_fragment &&
              NK_VLAN == 1 << if_vlan && NK_TAG_BESIDE == 1 << if_ipv6);

struct Column {
  const char* name;
  const char* format;  // of the values, or of the indices into a dictionary
  size_t width;        // bytes of a value; 0: a bit
  Validity validity;
  void (*gather)(const Row* row, size_t rows, std::byte* to);  // null: not copied
};

// Copies a field of each row into a column. The compiler by itself would have counting take as long as copying.
template <auto field, typename To>
void gather(const Row* row, size_t rows, std::byte* to) {
  auto* const values = reinterpret_cast<To*>(to);
#pragma GCC unroll 4
  for (size_t i = 0; i < rows; ++i) values[i] = static_cast<To>(row[i].*field);
}

template <auto field>
constexpr Column number(const char* name, Validity validity) {
  using Type = std::remove_cvref_t<decltype(std::declval<Row>().*field)>;
  constexpr std::array formats{"C", "S", "", "I"};  // unsigned integers by their size
  return {name, formats[sizeof(Type) - 1], sizeof(Type), validity, gather<field, Type>};
}

// Places in the list of columns.
enum : size_t { pair_column = 1, side_column = 2, src_column = 4, dst_column = 5, more_column = 18 };

constexpr std::array columns{
    Column{"timestamp_ns", "tsn:UTC", 8, always, gather<&Row::timestamp_ns, int64_t>},
    Column{"pair_name", "i", 4, always, gather<&Row::pair, int32_t>},
    Column{"side", "c", 1, always, gather<&Row::side, int8_t>},
    number<&Row::family>("family", if_ip),
    Column{"src", "i", 4, if_ip, nullptr},
    Column{"dst", "i", 4, if_ip, nullptr},
    number<&Row::next_header>("next_header", if_ip),
    number<&Row::protocol>("protocol", if_protocol),
    number<&Row::src_port>("src_port", if_ports),
    number<&Row::dst_port>("dst_port", if_ports),
    number<&Row::tcp_flags>("tcp_flags", if_tcp),
    number<&Row::icmp_type>("icmp_type", if_icmp),
    number<&Row::icmp_code>("icmp_code", if_icmp),
    number<&Row::payload_len>("payload_len", if_ip),
    number<&Row::hop_limit>("hop_limit", if_ip),
    number<&Row::traffic_class>("traffic_class", if_ip),
    number<&Row::flow_label>("flow_label", if_ipv6),
    number<&Row::fragment_offset>("fragment_offset", if_fragment),
    Column{"fragment_more", "b", 0, if_fragment, nullptr},
    number<&Row::length>("length", always),
    number<&Row::gso_segs>("gso_segs", always),
    number<&Row::ethertype>("ethertype", always),
    number<&Row::vlan_id>("vlan_id", if_vlan),
};

bool is_dictionary(size_t column) {
  return column == pair_column || column == side_column || column == src_column || column == dst_column;
}

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

// The table of a batch in the making. Rows are taken some at a time, so that all columns find them in the cache.
class Table {
 public:
  explicit Table(const Batch& batch) : batch_(batch) {
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
      const Validity validity = columns[i].validity;
      const int64_t null_count = validity == always ? 0 : nulls[validity];
      const Memory valid = null_count == 0 ? nullptr : valid_[validity];
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

  // Of up to eight rows: a bit each in every bitmap.
  void take_bits(size_t first, size_t rows) {
    uint64_t flags = 0;  // a byte for each row
    uint64_t more = 0;
    for (size_t i = 0; i < rows; ++i) {
      const Row& row = batch_[first + i];
      const auto own = static_cast<uint64_t>(row.flags & ~NK_TAG_BESIDE);
      flags |= own << 8 * i | uint64_t{row.family == 6} << (8 * i + if_ipv6);
      more |= uint64_t{row.fragment_more} << i;
    }
    // Transposed as a matrix of bits, a byte is a flag and a bit a row: single bits, pairs and fours change places.
    uint64_t swap = (flags ^ flags >> 7) & 0x00aa00aa00aa00aaU;
    flags ^= swap ^ swap << 7;
    swap = (flags ^ flags >> 14) & 0x0000cccc0000ccccU;
    flags ^= swap ^ swap << 14;
    swap = (flags ^ flags >> 28) & 0x00000000f0f0f0f0U;
    flags ^= swap ^ swap << 28;
    for (size_t i = 0; i < bitmaps; ++i) valid_[i].get()[first / 8] = std::byte(flags >> 8 * i & 0xff);
    values_[more_column].get()[first / 8] = std::byte(more);
  }

  Array dictionary(size_t column) {
    switch (column) {
      case pair_column:
        return make_texts(*batch_.names());
      case side_column:
        return make_texts({name_of(Side::primary), name_of(Side::peer)});
      case src_column:
        return make_texts(texts_of(src_));
      case dst_column:
        return make_texts(texts_of(dst_));
      default:
        return {};
    }
  }

  const Batch& batch_;
  std::array<Memory, columns.size()> values_;
  std::array<Memory, bitmaps> valid_;
  AddressIndex src_;
  AddressIndex dst_;
};

Schema table_schema(const Batch& batch) {
  std::vector<Schema> fields;
  for (size_t i = 0; i < columns.size(); ++i) {
    const Column& column = columns.at(i);
    fields.push_back(make_schema(column.format, column.name, column.validity == always ? 0 : ARROW_FLAG_NULLABLE,
                                 is_dictionary(i) ? make_schema("U", "", 0) : Schema()));
  }
  if (batch.has_data()) fields.push_back(make_schema("Z", "data", 0));
  return make_schema("+s", "", 0, {}, std::move(fields));
}

struct Stream {
  Batch batch;
  bool done = false;
  std::string error;
};

// Runs f at the border to C, which no exception crosses; returns an errno.
template <typename F>
int guarded(ArrowArrayStream* stream, F f) noexcept {
  auto* const self = static_cast<Stream*>(stream->private_data);
  try {
    f(*self);
    return 0;
  } catch (const std::exception& error) {
    self->error = error.what();
    return ENOMEM;
  }
}

}  // namespace

void export_schema(const Batch& batch, ArrowSchema* out) { move_out(table_schema(batch), out); }

void export_array(const Batch& batch, ArrowArray* out) { move_out(Table(batch).finish(), out); }

void export_stream(const Batch& batch, ArrowArrayStream* out) {
  *out = {
      .get_schema =
          [](ArrowArrayStream* stream, ArrowSchema* schema) {
            return guarded(stream, [&](Stream& self) { export_schema(self.batch, schema); });
          },
      .get_next =
          [](ArrowArrayStream* stream, ArrowArray* array) {
            return guarded(stream, [&](Stream& self) {
              *array = {};  // released: the end
              if (!self.done) export_array(self.batch, array);
              self.done = true;
            });
          },
      .get_last_error = [](ArrowArrayStream* stream) -> const char* {
        return static_cast<Stream*>(stream->private_data)->error.c_str();
      },
      .release =
          [](ArrowArrayStream* stream) {
            delete static_cast<Stream*>(stream->private_data);
            stream->release = nullptr;
          },
      .private_data = new Stream{.batch = batch, .done = false, .error = {}},
  };
}

}  // namespace netkit_bpf::table
