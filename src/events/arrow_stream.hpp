// SPDX-License-Identifier: MIT
// Arrow's C stream interface, for tables of one batch.
#pragma once

#include <cerrno>
#include <exception>
#include <string>

#include "events/arrow.hpp"

namespace netkit_bpf::arrow {

// What a stream keeps until its consumer releases it.
template <typename Table>
struct OneBatch {
  Table table;
  bool done = false;
  std::string error;

  static OneBatch& of(ArrowArrayStream* stream) { return *static_cast<OneBatch*>(stream->private_data); }
  // Runs f at the border to C, which no exception may cross; returns an errno.
  template <typename F>
  int guarded(F f) noexcept {
    try {
      f();
      return 0;
    } catch (const std::exception& failure) {
      error = failure.what();
      return ENOMEM;
    }
  }
};

// A stream of one array, which keeps a copy of the table. `schema` and `array` export it to the place they are given.
template <auto schema, auto array, typename Table>
void export_stream(const Table& table, ArrowArrayStream* out) {
  using Stream = OneBatch<Table>;
  *out = {
      .get_schema =
          [](ArrowArrayStream* stream, ArrowSchema* to) {
            Stream& self = Stream::of(stream);
            return self.guarded([&] { schema(self.table, to); });
          },
      .get_next =
          [](ArrowArrayStream* stream, ArrowArray* to) {
            Stream& self = Stream::of(stream);
            return self.guarded([&] {
              *to = {};  // released: the end
              if (!self.done) array(self.table, to);
              self.done = true;
            });
          },
      .get_last_error = [](ArrowArrayStream* stream) -> const char* { return Stream::of(stream).error.c_str(); },
      .release =
          [](ArrowArrayStream* stream) {
            delete &Stream::of(stream);
            stream->release = nullptr;
          },
      .private_data = new Stream{.table = table, .done = false, .error = {}},
  };
}

}  // namespace netkit_bpf::arrow
