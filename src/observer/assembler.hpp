// SPDX-License-Identifier: MIT
// eBPF instructions in a row, with jumps to labels that may be placed later.
#pragma once

#include <linux/bpf.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace netkit_bpf {

class Assembler {
 public:
  using Label = size_t;

  void emit(bpf_insn instruction) { code_.push_back(instruction); }
  void emit(std::array<bpf_insn, 2> wide) { code_.insert(code_.end(), wide.begin(), wide.end()); }
  void emit(std::span<const bpf_insn> several) { code_.insert(code_.end(), several.begin(), several.end()); }

  Label new_label();
  // Places the label at the next instruction.
  void place(Label label) { places_[label] = code_.size(); }
  // Whether anything jumps to it so far.
  [[nodiscard]] bool is_used(Label label) const;

  void jump(Label label);
  // `op` is BPF_JEQ, BPF_JGT…; all 64 bits are compared.
  void jump_imm(unsigned op, unsigned dst, int32_t value, Label label);
  void jump_reg(unsigned op, unsigned dst, unsigned src, Label label);

  // Fills in the jump distances and returns the code. A jump beyond 16 bits becomes one of 32 bits (Linux 6.6 and
  // later), or leads to one.
  std::vector<bpf_insn> link();

 private:
  void jump(bpf_insn instruction, Label label);
  // Puts a long jump behind each jump that goes too far; returns whether there was one.
  bool lengthen();
  [[nodiscard]] ptrdiff_t distance(size_t at, Label label) const {
    return static_cast<ptrdiff_t>(places_[label]) - static_cast<ptrdiff_t>(at) - 1;
  }

  std::vector<bpf_insn> code_;
  std::vector<size_t> places_;                   // by label
  std::vector<std::pair<size_t, Label>> jumps_;  // which instruction, to which label
};

}  // namespace netkit_bpf
