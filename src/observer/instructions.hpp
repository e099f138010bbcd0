// SPDX-License-Identifier: MIT
// eBPF instructions by name, for programs that are made at run time
// (Documentation/bpf/standardization/instruction-set.rst).
#pragma once

#include <linux/bpf.h>

#include <array>
#include <cstdint>

namespace netkit_bpf::insn {

constexpr bpf_insn make(unsigned code, unsigned dst, unsigned src, int offset, int32_t immediate) {
  bpf_insn made{};
  made.code = static_cast<uint8_t>(code);
  made.dst_reg = dst & 15U;
  made.src_reg = src & 15U;
  made.off = static_cast<int16_t>(offset);
  made.imm = immediate;
  return made;
}

// `op` is BPF_MOV, BPF_ADD…; the ones named 32 work on the lower half and clear the upper.
constexpr bpf_insn alu(unsigned op, unsigned dst, unsigned src) { return make(BPF_ALU64 | op | BPF_X, dst, src, 0, 0); }
constexpr bpf_insn alu_imm(unsigned op, unsigned dst, int32_t value) {
  return make(BPF_ALU64 | op | BPF_K, dst, 0, 0, value);
}
constexpr bpf_insn alu32(unsigned op, unsigned dst, unsigned src) { return make(BPF_ALU | op | BPF_X, dst, src, 0, 0); }
constexpr bpf_insn alu32_imm(unsigned op, unsigned dst, int32_t value) {
  return make(BPF_ALU | op | BPF_K, dst, 0, 0, value);
}
constexpr bpf_insn big_endian(unsigned dst, int bits) { return make(BPF_ALU | BPF_END | BPF_TO_BE, dst, 0, 0, bits); }

// `size` is BPF_B, BPF_H, BPF_W or BPF_DW.
constexpr bpf_insn load(unsigned size, unsigned dst, unsigned base, int offset) {
  return make(BPF_LDX | BPF_MEM | size, dst, base, offset, 0);
}
constexpr bpf_insn store(unsigned size, unsigned base, int offset, unsigned src) {
  return make(BPF_STX | BPF_MEM | size, base, src, offset, 0);
}
constexpr bpf_insn store_imm(unsigned size, unsigned base, int offset, int32_t value) {
  return make(BPF_ST | BPF_MEM | size, base, 0, offset, value);
}

constexpr bpf_insn call(int32_t helper) { return make(BPF_JMP | BPF_CALL, 0, 0, 0, helper); }
constexpr bpf_insn exit() { return make(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

constexpr unsigned load_wide = BPF_DW;  // BPF_LD and BPF_IMM are zero
// An instruction in two slots: the address of a map, or of a byte in the only value of a map (BPF_PSEUDO_MAP_VALUE).
constexpr std::array<bpf_insn, 2> load_map(unsigned dst, int map) {
  return {make(load_wide, dst, BPF_PSEUDO_MAP_FD, 0, map), bpf_insn{}};
}
constexpr std::array<bpf_insn, 2> load_map_value(unsigned dst, int map, uint32_t offset) {
  return {make(load_wide, dst, BPF_PSEUDO_MAP_VALUE, 0, map), make(0, 0, 0, 0, static_cast<int32_t>(offset))};
}

}  // namespace netkit_bpf::insn
