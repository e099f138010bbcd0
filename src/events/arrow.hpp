// SPDX-License-Identifier: MIT
// Arrow's C data and C stream interfaces, which pass columns without an Arrow library:
// https://arrow.apache.org/docs/format/CDataInterface.html
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "events/memory.hpp"

extern "C" {

// The ABI of the interfaces. The guards are those of the specification, because other headers define the same.
#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
  const char* format;
  const char* name;
  const char* metadata;
  int64_t flags;
  int64_t n_children;
  struct ArrowSchema** children;
  struct ArrowSchema* dictionary;
  void (*release)(struct ArrowSchema*);
  void* private_data;
};

struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void** buffers;
  struct ArrowArray** children;
  struct ArrowArray* dictionary;
  void (*release)(struct ArrowArray*);
  void* private_data;
};

#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
  int (*get_schema)(struct ArrowArrayStream*, struct ArrowSchema* out);
  int (*get_next)(struct ArrowArrayStream*, struct ArrowArray* out);
  const char* (*get_last_error)(struct ArrowArrayStream*);
  void (*release)(struct ArrowArrayStream*);
  void* private_data;
};

#endif
}

namespace netkit_bpf::arrow {

// Frees a structure, and releases it unless it was moved away.
struct Release {
  template <typename Structure>
  void operator()(Structure* structure) const {
    if (structure->release != nullptr) structure->release(structure);
    delete structure;
  }
};
using Array = std::unique_ptr<ArrowArray, Release>;
using Schema = std::unique_ptr<ArrowSchema, Release>;

using Memory = std::shared_ptr<std::byte>;

// An array that keeps its buffers. Its holder may move children out of it, and release each at any time.
Array make_array(int64_t length, int64_t null_count, std::vector<Memory> buffers, Array dictionary = {},
                 std::vector<Array> children = {});
// An array of large_string.
Array make_texts(const std::vector<std::string>& texts);

// Format and name must be constants: they are not copied. The metadata are encoded as the interface says; none if
// empty.
Schema make_schema(const char* format, const char* name, int64_t flags, Schema dictionary = {},
                   std::vector<Schema> children = {}, std::string metadata = {});

// An array of large_string or large_binary; get(i) gives a span with the bytes of each. `bitmap` has a bit for each
// that is there, and `nulls` are not.
template <typename Get>
Array make_binary(size_t size, Get get, Memory bitmap = nullptr, int64_t nulls = 0) {
  Memory ends = allocate((size + 1) * sizeof(int64_t));
  auto* const end = reinterpret_cast<int64_t*>(ends.get());
  end[0] = 0;
  for (size_t i = 0; i < size; ++i) end[i + 1] = end[i] + static_cast<int64_t>(get(i).size());
  Memory bytes = allocate(static_cast<size_t>(end[size]));
  for (size_t i = 0; i < size; ++i) std::copy(get(i).begin(), get(i).end(), bytes.get() + end[i]);
  return make_array(static_cast<int64_t>(size), nulls, {std::move(bitmap), std::move(ends), std::move(bytes)});
}

// Moves a structure to the place that a consumer gives.
template <typename Structure>
void move_out(std::unique_ptr<Structure, Release> owned, Structure* out) {
  *out = *owned;
  owned->release = nullptr;
}

}  // namespace netkit_bpf::arrow
