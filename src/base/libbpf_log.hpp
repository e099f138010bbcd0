// SPDX-License-Identifier: MIT
// Messages of libbpf during an operation, collected instead of printed.
#pragma once

#include <string>

namespace netkit_bpf {

// While one exists, libbpf's messages on this thread go into it; messages on other threads are printed as usual.
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
