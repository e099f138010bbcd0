// SPDX-License-Identifier: MIT
#include "observer/classic_to_ebpf.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>

#include "observer/assembler.hpp"
#include "observer/instructions.hpp"

namespace netkit_bpf::classic {

namespace {

constexpr unsigned r0 = BPF_REG_0;  // what was loaded
constexpr unsigned r1 = BPF_REG_1;  // an operand
constexpr unsigned r2 = BPF_REG_2;  // an offset into the packet
constexpr unsigned r3 = BPF_REG_3;
constexpr unsigned r4 = BPF_REG_4;
constexpr unsigned r5 = BPF_REG_5;
constexpr unsigned context = BPF_REG_6;
constexpr unsigned a = BPF_REG_7;  // the accumulator; both are kept with the upper half clear
constexpr unsigned x = BPF_REG_8;  // the index
constexpr unsigned frame = BPF_REG_10;

// The stack, from its top down.
constexpr int copy_at = -8;                        // what was copied out of the packet
constexpr int laps_at = -16;                       // how often the program has jumped back
constexpr int memory_at = -16 - 4 * BPF_MEMWORDS;  // the scratch memory M[]
constexpr int head_at = memory_at - 24;            // of a tagged packet: its addresses, the tag, and four bytes more

constexpr uint32_t tag_at = 12;
constexpr uint32_t tag_size = 4;
constexpr uint32_t largest_offset = 0x7fffffff;
constexpr uint32_t largest_direct_offset = 0x7fff;  // the verifier must know a bound
// Only "protochain" jumps back, to the next header of a chain. A packet with more headers than this does not match.
constexpr int most_laps = 16;

constexpr int skb(size_t offset) { return static_cast<int>(offset); }

class Translator : private Assembler {
 public:
  explicit Translator(std::span<const sock_filter> program) : program_(program) {}

  std::vector<bpf_insn> run(std::span<const bpf_insn> match, std::span<const bpf_insn> no_match) {
    const Label tagged = new_label();
    emit(insn::alu(BPF_MOV, context, r1));
    emit_initial_state();
    emit(insn::load(BPF_W, r1, context, skb(offsetof(__sk_buff, vlan_present))));
    jump_imm(BPF_JNE, r1, 0, tagged);
    // Emitted twice, so that most packets do not pay for what only tagged ones need.
    emit_program(false);
    place(tagged);
    emit_head();
    emit_program(true);
    emit_end(match_, match);
    emit_end(no_match_, no_match);
    return link();
  }

 private:
  // The verifier refuses unreachable instructions.
  void emit_end(Label label, std::span<const bpf_insn> instructions) {
    if (!is_used(label)) return;
    place(label);
    emit(instructions);
  }

  // --- The state that a classic program has.

  void emit_initial_state() {
    emit(insn::alu_imm(BPF_MOV, a, 0));
    emit(insn::alu_imm(BPF_MOV, x, 0));
    emit(insn::store_imm(BPF_DW, frame, laps_at, 0));
    std::array<bool, BPF_MEMWORDS> used{};
    for (const sock_filter& each : program_)
      if (uses_memory(each)) used.at(memory_word(each)) = true;
    for (uint32_t word = 0; word < used.size(); ++word)
      if (used.at(word)) emit(insn::store_imm(BPF_W, frame, memory_at + 4 * static_cast<int>(word), 0));
  }
  static bool uses_memory(const sock_filter& each) {
    const unsigned kind = BPF_CLASS(each.code);
    return kind == BPF_ST || kind == BPF_STX || ((kind == BPF_LD || kind == BPF_LDX) && BPF_MODE(each.code) == BPF_MEM);
  }
  static uint32_t memory_word(const sock_filter& each) {
    if (each.k >= BPF_MEMWORDS)
      throw std::invalid_argument("a classic BPF program with a scratch memory index beyond 15");
    return each.k;
  }
  static int memory(const sock_filter& each) { return memory_at + 4 * static_cast<int>(memory_word(each)); }

  // Builds the first bytes, as on the wire, of a packet whose outermost tag is beside it.
  void emit_head() {
    emit_copy(0, head_at, tag_at);
    emit(insn::load(BPF_W, r1, context, skb(offsetof(__sk_buff, vlan_proto))));  // as on the wire
    emit(insn::store(BPF_H, frame, head_at + 12, r1));
    emit(insn::load(BPF_W, r1, context, skb(offsetof(__sk_buff, vlan_tci))));
    emit(insn::big_endian(r1, 16));
    emit(insn::store(BPF_H, frame, head_at + 14, r1));
    emit_copy(12, head_at + 16, 2);
    emit_copy(14, head_at + 18, 2);  // may be missing: then zeros, and loading them is refused
  }
  void emit_copy(int32_t from, int to, int32_t size) {
    emit(insn::alu(BPF_MOV, r1, context));
    emit(insn::alu_imm(BPF_MOV, r2, from));
    emit(insn::alu(BPF_MOV, r3, frame));
    emit(insn::alu_imm(BPF_ADD, r3, to));
    emit(insn::alu_imm(BPF_MOV, r4, size));
    emit(insn::call(BPF_FUNC_skb_load_bytes));
  }
  void emit_length(unsigned to) {
    emit(insn::load(BPF_W, to, context, skb(offsetof(__sk_buff, len))));
    if (tagged_) emit(insn::alu_imm(BPF_ADD, to, tag_size));
  }

  // --- One classic instruction after the other.

  void emit_program(bool tagged) {
    tagged_ = tagged;
    places_.clear();
    for (size_t i = 0; i < program_.size(); ++i) places_.push_back(new_label());
    for (at_ = 0; at_ < program_.size(); ++at_) {
      place(places_[at_]);
      emit_one(program_[at_]);
    }
  }
  // The label of the instruction `distance` behind the next one.
  [[nodiscard]] Label target(int64_t distance) const {
    const int64_t to = static_cast<int64_t>(at_) + 1 + distance;
    if (to < 0 || to >= static_cast<int64_t>(program_.size()))
      throw std::invalid_argument("a classic BPF program that jumps out of itself");
    return places_[static_cast<size_t>(to)];
  }

  void emit_one(const sock_filter& each) {
    switch (BPF_CLASS(each.code)) {
      case BPF_LD:
        emit_load(each);
        break;
      case BPF_LDX:
        emit_load_index(each);
        break;
      case BPF_ST:
        emit(insn::store(BPF_W, frame, memory(each), a));
        break;
      case BPF_STX:
        emit(insn::store(BPF_W, frame, memory(each), x));
        break;
      case BPF_ALU:
        emit_alu(each);
        break;
      case BPF_JMP:
        emit_jump(each);
        break;
      case BPF_RET:
        emit_return(each);
        break;
      default:
        emit(BPF_MISCOP(each.code) == BPF_TAX ? insn::alu(BPF_MOV, x, a) : insn::alu(BPF_MOV, a, x));
    }
  }

  void emit_load(const sock_filter& each) {
    switch (BPF_MODE(each.code)) {
      case BPF_IMM:
        emit(insn::alu32_imm(BPF_MOV, a, static_cast<int32_t>(each.k)));
        break;
      case BPF_LEN:
        emit_length(a);
        break;
      case BPF_MEM:
        emit(insn::load(BPF_W, a, frame, memory(each)));
        break;
      case BPF_ABS:
      case BPF_IND:
        emit_packet_load(BPF_SIZE(each.code), each.k, BPF_MODE(each.code) == BPF_IND);
        emit(insn::alu(BPF_MOV, a, r0));
        break;
      default:
        throw std::invalid_argument("a classic BPF program with an unknown kind of load");
    }
  }

  void emit_load_index(const sock_filter& each) {
    switch (BPF_MODE(each.code)) {
      case BPF_IMM:
        emit(insn::alu32_imm(BPF_MOV, x, static_cast<int32_t>(each.k)));
        break;
      case BPF_LEN:
        emit_length(x);
        break;
      case BPF_MEM:
        emit(insn::load(BPF_W, x, frame, memory(each)));
        break;
      case BPF_MSH:  // the length of an IPv4 header
        emit_packet_load(BPF_B, each.k, false);
        emit(insn::alu_imm(BPF_AND, r0, 0xf));
        emit(insn::alu_imm(BPF_LSH, r0, 2));
        emit(insn::alu(BPF_MOV, x, r0));
        break;
      default:
        throw std::invalid_argument("a classic BPF program with an unknown kind of load");
    }
  }

  static int bytes_of(unsigned size) {
    switch (size) {
      case BPF_B:
        return 1;
      case BPF_H:
        return 2;
      case BPF_W:
        return 4;
      default:
        throw std::invalid_argument("a classic BPF program with an unknown size of load");
    }
  }

  // Loads what is at k, or at X + k, into R0. If the offset is only k, the verifier knows the branch and drops the
  // others.
  void emit_packet_load(unsigned size, uint32_t k, bool indexed) {
    const int bytes = bytes_of(size);
    const Label slow = new_label();
    const Label have = new_label();
    const Label done = new_label();
    emit(insn::alu32_imm(BPF_MOV, r2, static_cast<int32_t>(k)));
    if (indexed) emit(insn::alu(BPF_ADD, r2, x));
    jump_imm(BPF_JGT, r2, largest_offset, no_match_);
    if (tagged_) emit_load_from_head(bytes, done);

    jump_imm(BPF_JGT, r2, largest_direct_offset, slow);
    emit(insn::load(BPF_W, r3, context, skb(offsetof(__sk_buff, data))));
    emit(insn::load(BPF_W, r5, context, skb(offsetof(__sk_buff, data_end))));
    emit(insn::alu(BPF_ADD, r3, r2));
    emit(insn::alu(BPF_MOV, r4, r3));
    emit(insn::alu_imm(BPF_ADD, r4, bytes));
    jump_reg(BPF_JGT, r4, r5, slow);
    emit(insn::load(size, r0, r3, 0));
    jump(have);

    place(slow);  // not in the linear part
    emit(insn::alu(BPF_MOV, r1, context));
    emit(insn::alu(BPF_MOV, r3, frame));
    emit(insn::alu_imm(BPF_ADD, r3, copy_at));
    emit(insn::alu_imm(BPF_MOV, r4, bytes));
    emit(insn::call(BPF_FUNC_skb_load_bytes));
    jump_imm(BPF_JNE, r0, 0, no_match_);
    emit(insn::load(size, r0, frame, copy_at));
    place(have);
    if (size != BPF_B) emit(insn::big_endian(r0, 8 * bytes));
    place(done);
  }
  // Byte by byte, because the verifier wants larger loads from the stack to be aligned.
  void emit_load_from_head(int bytes, Label done) {
    const Label behind = new_label();
    jump_imm(BPF_JGE, r2, tag_at + tag_size, behind);
    emit_length(r1);
    emit(insn::alu_imm(BPF_SUB, r1, bytes));
    jump_reg(BPF_JGT, r2, r1, no_match_);
    emit(insn::alu(BPF_MOV, r3, frame));
    emit(insn::alu(BPF_ADD, r3, r2));
    emit(insn::alu_imm(BPF_MOV, r0, 0));
    for (int i = 0; i < bytes; ++i) {
      emit(insn::load(BPF_B, r1, r3, head_at + i));
      emit(insn::alu_imm(BPF_LSH, r0, 8));
      emit(insn::alu(BPF_OR, r0, r1));
    }
    jump(done);
    place(behind);
    emit(insn::alu_imm(BPF_SUB, r2, tag_size));
  }

  // The right operand, K or X, in R1.
  void emit_operand(const sock_filter& each) {
    if (BPF_SRC(each.code) == BPF_X)
      emit(insn::alu(BPF_MOV, r1, x));
    else
      emit(insn::alu32_imm(BPF_MOV, r1, static_cast<int32_t>(each.k)));
  }

  void emit_alu(const sock_filter& each) {
    const unsigned op = BPF_OP(each.code);
    if (op > BPF_XOR) throw std::invalid_argument("a classic BPF program with an unknown operation");
    emit_operand(each);
    const Label done = new_label();
    if (op == BPF_DIV || op == BPF_MOD) jump_imm(BPF_JEQ, r1, 0, no_match_);  // as libpcap's interpreter does
    if (op == BPF_LSH || op == BPF_RSH) {
      const Label shift = new_label();
      jump_imm(BPF_JLT, r1, 32, shift);
      emit(insn::alu_imm(BPF_MOV, a, 0));
      jump(done);
      place(shift);
    }
    emit(op == BPF_NEG ? insn::alu32_imm(BPF_NEG, a, 0) : insn::alu32(op, a, r1));
    place(done);
  }

  void emit_jump(const sock_filter& each) {
    const unsigned op = BPF_OP(each.code);
    if (op > BPF_JSET) throw std::invalid_argument("a classic BPF program with an unknown jump");
    if (op == BPF_JA) {
      const auto distance = static_cast<int32_t>(each.k);
      if (distance < 0) emit_lap();
      jump(target(distance));
    } else {
      emit_operand(each);
      jump_reg(op, a, r1, target(each.jt));
      if (each.jf != 0) jump(target(each.jf));
    }
  }
  void emit_lap() {
    emit(insn::load(BPF_DW, r1, frame, laps_at));
    emit(insn::alu_imm(BPF_ADD, r1, 1));
    emit(insn::store(BPF_DW, frame, laps_at, r1));
    jump_imm(BPF_JGT, r1, most_laps, no_match_);
  }

  void emit_return(const sock_filter& each) {
    if (BPF_RVAL(each.code) == BPF_K) {
      jump(each.k != 0 ? match_ : no_match_);
    } else {
      jump_imm(BPF_JNE, a, 0, match_);
      jump(no_match_);
    }
  }

  std::span<const sock_filter> program_;
  size_t at_ = 0;              // in program_
  bool tagged_ = false;        // the packet's outermost tag is beside it
  std::vector<Label> places_;  // of each classic instruction
  Label match_ = new_label();
  Label no_match_ = new_label();
};

constexpr auto metadata_at = static_cast<uint32_t>(SKF_AD_OFF);
constexpr auto first_special = static_cast<uint32_t>(SKF_LL_OFF);  // the lowest of the three ranges (linux/filter.h)

// What the kernel has at an offset outside of the packet.
std::string name_of_special(uint32_t offset) {
  switch (offset - metadata_at) {
    case SKF_AD_PROTOCOL:
      return "the packet's protocol (SKF_AD_PROTOCOL); 'ether proto' reads it from the packet";
    case SKF_AD_PKTTYPE:
      return "the packet's direction, as 'inbound' and 'outbound' do; a hook sees what its own end sends, all of it "
             "outbound: choose the sides instead";
    case SKF_AD_IFINDEX:
      return "the packet's device, as 'ifindex' does; at a hook that is the receiving end already: choose the pair "
             "and the sides instead";
    case SKF_AD_VLAN_TAG:
    case SKF_AD_VLAN_TAG_PRESENT:
    case SKF_AD_VLAN_TPID:
      return "a VLAN tag beside the packet (SKF_AD_VLAN_TAG); 'vlan' matches it as it is on the wire";
    default:
      break;
  }
  if (offset >= metadata_at)
    return "the kernel's metadata number " + std::to_string(offset - metadata_at) + " (SKF_AD_OFF)";
  return offset >= static_cast<uint32_t>(SKF_NET_OFF) ? "offsets from the network header (SKF_NET_OFF)"
                                                      : "offsets from the link header (SKF_LL_OFF)";
}

bool loads_from_packet(const sock_filter& each) {
  const unsigned kind = BPF_CLASS(each.code);
  const unsigned mode = BPF_MODE(each.code);
  return (kind == BPF_LD && (mode == BPF_ABS || mode == BPF_IND)) || (kind == BPF_LDX && mode == BPF_MSH);
}

}  // namespace

void check_loads(std::span<const sock_filter> program) {
  for (const sock_filter& each : program)
    if (loads_from_packet(each) && each.k >= first_special)
      throw std::invalid_argument("it asks for " + name_of_special(each.k));
}

std::vector<bpf_insn> translate(std::span<const sock_filter> program, std::span<const bpf_insn> match,
                                std::span<const bpf_insn> no_match) {
  if (program.empty() || BPF_CLASS(program.back().code) != BPF_RET)
    throw std::invalid_argument("a classic BPF program without a return at its end");
  check_loads(program);
  return Translator(program).run(match, no_match);
}

}  // namespace netkit_bpf::classic
