// SPDX-License-Identifier: MIT
#include "observer/assembler.hpp"

#include <algorithm>
#include <utility>

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

namespace {

constexpr unsigned long_jump = BPF_JMP32 | BPF_JA;  // its distance is the immediate

bool is_short(ptrdiff_t distance) { return distance == static_cast<int16_t>(distance); }

}  // namespace

// A jump without a condition is lengthened in place. One with a condition gets two instructions behind it:
//   if … goto long; goto on; long: goto label; on: …
bool Assembler::lengthen() {
  std::vector<size_t> far;  // numbers in jumps_, which are in the order of their places
  for (size_t i = 0; i < jumps_.size(); ++i) {
    const auto& [at, label] = jumps_[i];
    if (code_[at].code != long_jump && !is_short(distance(at, label))) far.push_back(i);
  }
  std::vector<bpf_insn> code;
  std::vector<size_t> moved(code_.size() + 1);  // where each instruction goes
  std::vector<std::pair<size_t, Label>> jumps;
  auto next_far = far.begin();
  size_t next_jump = 0;
  for (size_t at = 0; at < code_.size(); ++at) {
    moved[at] = code.size();
    const bool is_jump = next_jump < jumps_.size() && jumps_[next_jump].first == at;
    if (!is_jump) {
      code.push_back(code_[at]);
      continue;
    }
    const Label label = jumps_[next_jump].second;
    const bool is_far = next_far != far.end() && *next_far == next_jump;
    if (is_far && code_[at].code != (BPF_JMP | BPF_JA)) {
      bpf_insn condition = code_[at];
      condition.off = 1;
      code.push_back(condition);
      code.push_back(insn::make(BPF_JMP | BPF_JA, 0, 0, 1, 0));
    }
    jumps.emplace_back(code.size(), label);
    code.push_back(is_far ? insn::make(long_jump, 0, 0, 0, 0) : code_[at]);
    next_far += is_far ? 1 : 0;
    ++next_jump;
  }
  moved[code_.size()] = code.size();
  for (size_t& place : places_) place = moved[place];
  code_ = std::move(code);
  jumps_ = std::move(jumps);
  return !far.empty();
}

std::vector<bpf_insn> Assembler::link() {
  while (lengthen()) {  // which can make other jumps too long
  }
  for (const auto& [at, label] : jumps_) {
    if (code_[at].code == long_jump)
      code_[at].imm = static_cast<int32_t>(distance(at, label));
    else
      code_[at].off = static_cast<int16_t>(distance(at, label));
  }
  return std::move(code_);
}

}  // namespace netkit_bpf
