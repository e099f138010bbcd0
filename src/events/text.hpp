// SPDX-License-Identifier: MIT
// Numbers, addresses and bytes as text, appended to a string.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.hpp"

namespace netkit_bpf {

void append_decimal(std::string& out, uint64_t value, size_t width = 1);  // with leading zeros up to the width
void append_hex(std::string& out, uint64_t value, size_t width = 1);
void append_mac(std::string& out, Bytes six);

// As tcpdump's -x, each line behind a new line: "\t0x0000:  4500 0034 …", with their characters as its -X.
void append_hexdump(std::string& out, Bytes bytes, bool with_characters);
// As tcpdump's -A: what cannot be printed is a dot.
void append_characters(std::string& out, Bytes bytes);

}  // namespace netkit_bpf
