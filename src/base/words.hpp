// SPDX-License-Identifier: MIT
// Words and their numbers: one table for the core, the bindings and Python.
#pragma once

#include <array>
#include <cstddef>

namespace netkit_bpf {

template <typename Number>
struct Word {
  const char* text;
  Number number;
};

template <typename Number, size_t count>
using Words = std::array<Word<Number>, count>;

// The word for a number of the table; "unknown" for any other.
template <typename Number, size_t count>
constexpr const char* word_of(const Words<Number, count>& words, Number number) {
  for (const Word<Number>& each : words) {
    if (each.number == number) return each.text;
  }
  return "unknown";
}

}  // namespace netkit_bpf
