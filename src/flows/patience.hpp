// SPDX-License-Identifier: MIT
// Waiting for what a program is just doing.
#pragma once

#include <ctime>

namespace netkit_bpf {

// A program takes some nanoseconds for what a reader waits for; but a hypervisor may take its CPU away meanwhile.
class Patience {
 public:
  // False once a second has gone by.
  bool wait() {
    if (++tries_ < spins) return true;
    const timespec time{0, 20'000};
    ::nanosleep(&time, nullptr);
    return tries_ < spins + 50'000;
  }

 private:
  static constexpr int spins = 256;
  int tries_ = 0;
};

}  // namespace netkit_bpf
