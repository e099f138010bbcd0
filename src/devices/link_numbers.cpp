// SPDX-License-Identifier: MIT
#include "devices/link_numbers.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace netkit_bpf {

size_t link_number(std::string_view name) {
  const auto* const found =
      std::find_if(link_numbers.begin(), link_numbers.end(), [&](const LinkNumber& row) { return row.name == name; });
  if (found == link_numbers.end()) throw std::out_of_range("no such link attribute: " + std::string(name));
  return static_cast<size_t>(found - link_numbers.begin());
}

}  // namespace netkit_bpf
