// SPDX-License-Identifier: MIT
// What libbpf says while something is done, collected instead of printed.
#pragma once

#include <string>

namespace netkit_bpf {

// While one lives, libbpf's messages of this thread go into it; other threads keep libbpf's own way.
class LibbpfLog {
 public:
  LibbpfLog();
  ~LibbpfLog();
  LibbpfLog(const LibbpfLog&) = delete;
  LibbpfLog& operator=(const LibbpfLog&) = delete;

  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  void append(const char* message) { text_ += message; }

 private:
  std::string text_;
  LibbpfLog* outer_;
};

}  // namespace netkit_bpf
