// SPDX-License-Identifier: MIT
#include "flows/flow_arrow.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "base/side.hpp"
#include "events/arrow_stream.hpp"
#include "events/memory.hpp"

namespace netkit_bpf::flow_arrow {

namespace {

using arrow::Array;
using arrow::make_array;
using arrow::make_schema;
using arrow::make_texts;
using arrow::Memory;
using arrow::move_out;
using arrow::Schema;
using Type = FlowField::Type;

const std::byte* bytes_at(const FlowRow& row, const FlowField& field) {
  return reinterpret_cast<const std::byte*>(&row) + field.offset;
}

bool applies(const FlowRow& row, const FlowField& field) { return field.known == 0 || (row.known & field.known) != 0; }

const char* format_of(const FlowField& field) {
  switch (field.type) {
    case Type::time:
      return "tsn:UTC";
    case Type::pair:
      return "i";  // of the dictionary's indices
    case Type::side:
      return "c";
    case Type::address:
      return "U";
    case Type::number:
      break;
  }
  if (field.size == sizeof(uint8_t)) return "C";
  return field.size == sizeof(uint16_t) ? "S" : "L";
}

// A bit for each row, and how many are not set.
std::pair<Memory, int64_t> validity(const FlowTable& table, const FlowField& field) {
  const size_t size = (table.size() + 7) / 8;
  Memory bitmap = allocate(size);
  std::memset(bitmap.get(), 0, size);
  int64_t nulls = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    if (applies(table[i], field))
      bitmap.get()[i / 8] |= std::byte{1} << (i % 8);
    else
      ++nulls;
  }
  if (nulls == 0) bitmap = nullptr;
  return {bitmap, nulls};
}

Array texts_column(const FlowTable& table, const FlowField& field) {
  std::vector<std::string> texts;
  texts.reserve(table.size());
  for (const FlowRow& row : table.rows()) {
    const bool has_text = applies(row, field);
    texts.push_back(has_text ? address_text(row, reinterpret_cast<const uint8_t*>(bytes_at(row, field)))
                             : std::string());
  }
  auto [bitmap, nulls] = validity(table, field);
  return arrow::make_binary(
      texts.size(), [&](size_t i) { return std::as_bytes(std::span(texts[i])); }, std::move(bitmap), nulls);
}

Array column(const FlowTable& table, const FlowField& field) {
  if (field.type == Type::address) return texts_column(table, field);
  const size_t width = field.type == Type::pair ? sizeof(int32_t) : field.size;
  Memory values = allocate(width * table.size());
  std::memset(values.get(), 0, width * table.size());
  for (size_t i = 0; i < table.size(); ++i)
    std::memcpy(values.get() + i * width, bytes_at(table[i], field), field.size);  // little-endian, as Arrow's are
  Array dictionary;
  if (field.type == Type::pair) dictionary = make_texts(*table.names());
  if (field.type == Type::side) dictionary = make_texts({name_of(Side::primary), name_of(Side::peer)});
  auto [bitmap, nulls] = validity(table, field);
  return make_array(static_cast<int64_t>(table.size()), nulls, {std::move(bitmap), std::move(values)},
                    std::move(dictionary));
}

}  // namespace

std::string address_text(const FlowRow& row, const uint8_t* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(row.identity.family == 6 ? AF_INET6 : AF_INET, address, text.data(), text.size());
  return text.data();
}

void export_schema(ArrowSchema* out) {
  std::vector<Schema> fields;
  for (const FlowField& field : flow_fields::all) {
    const bool is_dictionary = field.type == Type::pair || field.type == Type::side;
    fields.push_back(make_schema(format_of(field), field.name, field.known == 0 ? 0 : ARROW_FLAG_NULLABLE,
                                 is_dictionary ? make_schema("U", "", 0) : Schema()));
  }
  move_out(make_schema("+s", "", 0, {}, std::move(fields)), out);
}

void export_array(const FlowTable& table, ArrowArray* out) {
  std::vector<Array> columns;
  columns.reserve(flow_fields::all.size());
  for (const FlowField& field : flow_fields::all) columns.push_back(column(table, field));
  move_out(make_array(static_cast<int64_t>(table.size()), 0, {nullptr}, {}, std::move(columns)), out);
}

void export_stream(const FlowTable& table, ArrowArrayStream* out) {
  constexpr auto schema_of_all = [](const FlowTable&, ArrowSchema* to) { export_schema(to); };
  arrow::export_stream<schema_of_all, export_array>(table, out);
}

}  // namespace netkit_bpf::flow_arrow
