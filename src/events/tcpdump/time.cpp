// SPDX-License-Identifier: MIT
#include "events/tcpdump/time.hpp"

#include "events/text.hpp"

namespace netkit_bpf {

namespace {

constexpr int64_t ns_a_second = 1'000'000'000;

void append_clock(std::string& out, int64_t hours, int64_t minutes, int64_t seconds) {
  append_decimal(out, static_cast<uint64_t>(hours), 2);
  out += ':';
  append_decimal(out, static_cast<uint64_t>(minutes), 2);
  out += ':';
  append_decimal(out, static_cast<uint64_t>(seconds), 2);
}

}  // namespace

void LineTime::append_fraction(std::string& out, int64_t ns) const {
  const auto rest = static_cast<uint64_t>(ns % ns_a_second);
  out += '.';
  append_decimal(out, nanoseconds_ ? rest : rest / 1000, nanoseconds_ ? 9 : 6);
  out += ' ';
}

void LineTime::append_local(std::string& out, int64_t ns) {
  const int64_t second = ns / ns_a_second;
  if (known_ != second) {
    const std::time_t time = second;
    ::localtime_r(&time, &local_);
    known_ = second;
  }
  if (style_ == Style::date) {
    append_decimal(out, static_cast<uint64_t>(local_.tm_year) + 1900, 4);
    out += '-';
    append_decimal(out, static_cast<uint64_t>(local_.tm_mon) + 1, 2);
    out += '-';
    append_decimal(out, static_cast<uint64_t>(local_.tm_mday), 2);
    out += ' ';
  }
  append_clock(out, local_.tm_hour, local_.tm_min, local_.tm_sec);
  append_fraction(out, ns);
}

void LineTime::append_distance(std::string& out, int64_t ns) const {
  int64_t distance = ns - reference_.value_or(ns);
  out += distance < 0 ? '-' : ' ';
  if (distance < 0) distance = -distance;
  const int64_t seconds = distance / ns_a_second;
  append_clock(out, seconds / 3600, seconds / 60 % 60, seconds % 60);
  append_fraction(out, distance);
}

void LineTime::append(std::string& out, int64_t ns) {
  switch (style_) {
    case Style::none:
      return;
    case Style::epoch:
      append_decimal(out, static_cast<uint64_t>(ns / ns_a_second));
      append_fraction(out, ns);
      return;
    case Style::delta:
    case Style::since:
      append_distance(out, ns);
      if (style_ == Style::delta || !reference_) reference_ = ns;
      return;
    case Style::date:
    case Style::clock:
      append_local(out, ns);
  }
}

}  // namespace netkit_bpf
