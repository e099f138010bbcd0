// SPDX-License-Identifier: MIT
#include "base/libbpf_log.hpp"

#include <bpf/libbpf.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <vector>

namespace netkit_bpf {

namespace {

thread_local LibbpfLog* current = nullptr;
std::atomic<libbpf_print_fn_t> previous = nullptr;

// libbpf has one print function per process: it is replaced once, and passes on messages that are not ours.
int collect(libbpf_print_level level, const char* format, va_list arguments) {
  if (current == nullptr) {
    const libbpf_print_fn_t print = previous;
    return print != nullptr ? print(level, format, arguments) : 0;
  }
  if (level == LIBBPF_DEBUG) return 0;
  va_list again;
  va_copy(again, arguments);
  const int size = std::vsnprintf(nullptr, 0, format, arguments);
  try {
    if (size > 0) {
      std::vector<char> buffer(static_cast<size_t>(size) + 1);
      std::vsnprintf(buffer.data(), buffer.size(), format, again);
      current->append(buffer.data());
    }
  } catch (...) {  // no exception may cross libbpf; without memory the message is dropped
  }
  va_end(again);
  return size;
}

}  // namespace

LibbpfLog::LibbpfLog() : outer_(current) {
  static std::once_flag taken;
  std::call_once(taken, [] { previous = libbpf_set_print(collect); });
  current = this;
}

LibbpfLog::~LibbpfLog() { current = outer_; }

}  // namespace netkit_bpf
