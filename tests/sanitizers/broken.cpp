// SPDX-License-Identifier: MIT
// Faults on purpose: a sanitizer that does not catch its own is not at work, and its silence on the rest is worth nothing.
#include <climits>
#include <cstdlib>
#include <thread>

namespace {

// The compiler must not know what it points to, or another check speaks first.
int* volatile numbers;

void allocate() { numbers = static_cast<int*>(std::calloc(4, sizeof(int))); }

}  // namespace

extern "C" int heap_overflow(int index) {
  allocate();
  const int found = numbers[index];
  std::free(numbers);
  return found;
}

extern "C" int use_after_free(int index) {
  allocate();
  std::free(numbers);
  return numbers[index];
}

extern "C" int signed_overflow(int addend) { return INT_MAX + addend; }

extern "C" int data_race(int rounds) {
  int shared = 0;
  const auto count = [&] {
    for (int i = 0; i < rounds; ++i) ++shared;
  };
  std::thread other(count);
  count();
  other.join();
  return shared;
}
