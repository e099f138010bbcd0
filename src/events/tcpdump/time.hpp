// SPDX-License-Identifier: MIT
// The time in front of a line, in tcpdump's spellings.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>

namespace netkit_bpf {

class LineTime {
 public:
  enum class Style : uint8_t {
    none,   // -t
    epoch,  // -tt: seconds since 1970
    delta,  // -ttt: since the previous line
    date,   // -tttt: with the local date
    since,  // -ttttt: since the first line
    clock,  // local time
  };

  LineTime(Style style, bool nanoseconds) : style_(style), nanoseconds_(nanoseconds) {}

  // `ns` is Unix time.
  void append(std::string& out, int64_t ns);

 private:
  void append_fraction(std::string& out, int64_t ns) const;
  void append_local(std::string& out, int64_t ns);
  void append_distance(std::string& out, int64_t ns) const;

  Style style_;
  bool nanoseconds_;
  std::optional<int64_t> reference_;  // what distances are measured from
  // The local time of one second: to find it takes longer than the rest of a line.
  std::optional<int64_t> known_;
  std::tm local_{};
};

}  // namespace netkit_bpf
