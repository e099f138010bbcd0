// SPDX-License-Identifier: MIT
#include "events/stamped_batch.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "events/arrow_stream.hpp"
#include "events/arrow_table.hpp"
#include "events/memory.hpp"

namespace netkit_bpf {

std::optional<uint64_t> StampedBatch::netns_cookie(size_t row) const {
  const uint16_t pair = batch[row].pair;
  return pair < stamp.netns_cookies.size() ? stamp.netns_cookies[pair] : std::nullopt;
}

namespace table {

namespace {

using arrow::Array;
using arrow::make_array;
using arrow::make_schema;
using arrow::make_texts;
using arrow::Memory;
using arrow::move_out;
using arrow::Schema;

// The children of a structure, moved out of it, as its consumers may.
template <typename Structure>
std::vector<std::unique_ptr<Structure, arrow::Release>> take_children(Structure& parent) {
  std::vector<std::unique_ptr<Structure, arrow::Release>> children;
  for (Structure* child : std::span(parent.children, static_cast<size_t>(parent.n_children))) {
    children.emplace_back(new Structure(*child));
    child->release = nullptr;
  }
  return children;
}

template <typename T>
std::pair<Memory, std::span<T>> make_values(size_t size) {
  Memory memory = allocate(size * sizeof(T));
  auto* const first = reinterpret_cast<T*>(memory.get());
  return {std::move(memory), {first, size}};
}

// A dictionary of one text.
Array constant(const Memory& zeros, size_t rows, const std::string& text) {
  return make_array(static_cast<int64_t>(rows), 0, {nullptr, zeros}, make_texts({text}));
}

Array version_column(const StampedBatch& stamped) {
  auto [memory, values] = make_values<uint16_t>(stamped.batch.size());
  std::ranges::fill(values, stamped.stamp.schema_version);
  return make_array(static_cast<int64_t>(values.size()), 0, {nullptr, std::move(memory)});
}

Array sequence_column(const StampedBatch& stamped) {
  auto [memory, values] = make_values<uint64_t>(stamped.batch.size());
  std::iota(values.begin(), values.end(), stamped.stamp.first);
  return make_array(static_cast<int64_t>(values.size()), 0, {nullptr, std::move(memory)});
}

Array cookie_column(const StampedBatch& stamped) {
  const size_t rows = stamped.batch.size();
  const size_t bitmap_size = (rows + 7) / 8;
  auto [memory, values] = make_values<uint64_t>(rows);
  Memory bitmap = allocate(bitmap_size);
  std::memset(bitmap.get(), 0, bitmap_size);
  int64_t nulls = 0;
  for (size_t i = 0; i < rows; ++i) {
    const std::optional<uint64_t> cookie = stamped.netns_cookie(i);
    values[i] = cookie.value_or(0);
    if (cookie)
      bitmap.get()[i / 8] |= std::byte{1} << (i % 8);
    else
      ++nulls;
  }
  return make_array(static_cast<int64_t>(rows), nulls, {nulls == 0 ? nullptr : bitmap, std::move(memory)});
}

// Metadata as the C data interface has them: the number of keys, then each key and its value behind their lengths.
std::string metadata_of(const Stamp& stamp) {
  std::string encoded;
  const auto add_number = [&](size_t number) {
    const auto narrow = static_cast<int32_t>(number);
    encoded.append(reinterpret_cast<const char*>(&narrow), sizeof(narrow));
  };
  const auto add_text = [&](const std::string& text) {
    add_number(text.size());
    encoded += text;
  };
  add_number(1);
  add_text("netkit_bpf.schema_version");
  add_text(std::to_string(stamp.schema_version));
  return encoded;
}

}  // namespace

void export_stamped_schema(const StampedBatch& stamped, ArrowSchema* out) {
  Schema plain(new ArrowSchema{});
  export_schema(stamped.batch, plain.get());
  std::vector<Schema> fields = take_children(*plain);
  fields.push_back(make_schema("S", "schema_version", 0));
  for (const char* name : {"host", "boot_id"}) fields.push_back(make_schema("i", name, 0, make_schema("U", "", 0)));
  fields.push_back(make_schema("L", "netns_cookie", ARROW_FLAG_NULLABLE));
  fields.push_back(make_schema("i", "stream", 0, make_schema("U", "", 0)));
  fields.push_back(make_schema("L", "sequence", 0));
  move_out(make_schema("+s", "", 0, {}, std::move(fields), metadata_of(stamped.stamp)), out);
}

void export_stamped_array(const StampedBatch& stamped, ArrowArray* out) {
  const size_t rows = stamped.batch.size();
  Array plain(new ArrowArray{});
  export_array(stamped.batch, plain.get());
  std::vector<Array> columns = take_children(*plain);
  const Memory zeros = allocate(rows * sizeof(int32_t));
  std::memset(zeros.get(), 0, rows * sizeof(int32_t));
  columns.push_back(version_column(stamped));
  columns.push_back(constant(zeros, rows, stamped.stamp.host));
  columns.push_back(constant(zeros, rows, stamped.stamp.boot_id));
  columns.push_back(cookie_column(stamped));
  columns.push_back(constant(zeros, rows, stamped.stamp.stream));
  columns.push_back(sequence_column(stamped));
  move_out(make_array(static_cast<int64_t>(rows), 0, {nullptr}, {}, std::move(columns)), out);
}

void export_stamped_stream(const StampedBatch& stamped, ArrowArrayStream* out) {
  arrow::export_stream<export_stamped_schema, export_stamped_array>(stamped, out);
}

}  // namespace table

}  // namespace netkit_bpf
