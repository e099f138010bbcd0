// SPDX-License-Identifier: MIT
// Memory for many events.
#pragma once

#include <cstddef>
#include <memory>

namespace netkit_bpf {

// Not cleared, aligned to 64 bytes as Arrow recommends, and at least one byte. Throws std::bad_alloc.
std::shared_ptr<std::byte> allocate(size_t size);

}  // namespace netkit_bpf
