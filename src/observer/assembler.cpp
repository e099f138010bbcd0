// SPDX-License-Identifier: MIT
#include "observer/assembler.hpp"

#include <algorithm>
#include <stdexcept>

#include "observer/instructions.hpp"

namespace netkit_bpf {

Assembler::Label Assembler::new_label() {
  places_.push_back(0);
  return places_.size() - 1;
}

bool Assembler::is_used(Label label) const {
  return std::any_of(jumps_.begin(), jumps_.end(), [label](const auto& jump) { return jump.second == label; });
}

void Assembler::jump(bpf_insn instruction, Label label) {
  jumps_.emplace_back(code_.size(), label);
  emit(instruction);
}

void Assembler::jump(Label label) { jump(insn::make(BPF_JMP | BPF_JA, 0, 0, 0, 0), label); }

void Assembler::jump_imm(unsigned op, unsigned dst, int32_t value, Label label) {
  jump(insn::make(BPF_JMP | op | BPF_K, dst, 0, 0, value), label);
}

void Assembler::jump_reg(unsigned op, unsigned dst, unsigned src, Label label) {
  jump(insn::make(BPF_JMP | op | BPF_X, dst, src, 0, 0), label);
}

std::vector<bpf_insn> Assembler::link() {
  for (const auto& [at, label] : jumps_) {
    const ptrdiff_t distance = static_cast<ptrdiff_t>(places_[label]) - static_cast<ptrdiff_t>(at) - 1;
    if (distance != static_cast<int16_t>(distance))
      throw std::length_error("a BPF program with a jump that is too far");
    code_[at].off = static_cast<int16_t>(distance);
  }
  return std::move(code_);
}

}  // namespace netkit_bpf
