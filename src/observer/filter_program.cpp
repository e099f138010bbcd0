// SPDX-License-Identifier: MIT
#include "observer/filter_program.hpp"

#include <bpf/bpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/counters.hpp"
#include "base/error.hpp"
#include "base/privilege.hpp"
#include "base/verdict.hpp"
#include "observer/assembler.hpp"
#include "observer/classic_to_ebpf.hpp"
#include "observer/instructions.hpp"

namespace netkit_bpf {

namespace {

constexpr size_t log_size = 1 << 16;
constexpr uint32_t log_of_errors = 4;  // BPF_LOG_STATS, kernel/bpf: only the error, without the steps before it

std::string advice(int error) { return std::string(needs_bpf(error)) + shortage_advice(error); }

constexpr int key = -4;  // its place on the stack
constexpr unsigned context = BPF_REG_6;
constexpr unsigned state = BPF_REG_7;
constexpr unsigned said = BPF_REG_8;

// enum nk_recording of bpf/monitor.bpf.c
constexpr int32_t second_copy = 1;
constexpr int32_t other_waits = 2;
constexpr int32_t other_leaves = 4;

Fd create_map(bpf_map_type type, const char* name, uint32_t value_size) {
  Fd map(bpf_map_create(type, name, sizeof(uint32_t), value_size, 1, nullptr));
  if (!map) {
    const int error = errno;
    throw Error(error, std::string("create map '") + name + "'", advice(error));
  }
  return map;
}

void load_cell(Assembler& code, unsigned dst, int map, uint32_t offset) {
  code.emit(insn::load_map_value(BPF_REG_1, map, offset));
  code.emit(insn::load(BPF_W, dst, BPF_REG_1, 0));
}

// R0 is then the place of this CPU's only value in the map, or null.
void look_up(Assembler& code, int map) {
  code.emit(insn::store_imm(BPF_W, BPF_REG_10, key, 0));
  code.emit(insn::load_map(BPF_REG_1, map));
  code.emit(insn::alu(BPF_MOV, BPF_REG_2, BPF_REG_10));
  code.emit(insn::alu_imm(BPF_ADD, BPF_REG_2, key));
  code.emit(insn::call(BPF_FUNC_map_lookup_elem));
}

std::vector<bpf_insn> run_observer(int programs, const FilterProgram::Observer& observer) {
  Assembler code;
  code.emit(insn::alu(BPF_MOV, BPF_REG_1, context));
  code.emit(insn::load_map(BPF_REG_2, programs));
  code.emit(insn::alu_imm(BPF_MOV, BPF_REG_3, 0));
  code.emit(insn::call(BPF_FUNC_tail_call));
  load_cell(code, BPF_REG_0, observer.verdict_map, observer.verdict_offset);  // the array was emptied
  code.emit(insn::exit());
  return code.link();
}

// Leads to `out` unless this copy's filter counts the packet, and sets what is then said: as nk_is_recorder() in
// bpf/monitor.bpf.c.
void take_turns(Assembler& code, int left, const FilterProgram::Observer& observer, uint32_t recording,
                Assembler::Label out) {
  const Assembler::Label count = code.new_label();
  const Assembler::Label other_records = code.new_label();
  const Assembler::Label is_behind = code.new_label();
  load_cell(code, state, observer.verdict_map, recording);
  look_up(code, left);
  code.jump_imm(BPF_JEQ, BPF_REG_0, 0, count);
  code.emit(insn::alu(BPF_MOV, BPF_REG_1, state));
  code.emit(insn::alu_imm(BPF_AND, BPF_REG_1, second_copy));
  code.jump_imm(BPF_JNE, BPF_REG_1, observer.is_second ? second_copy : 0, other_records);
  code.emit(insn::store_imm(BPF_W, BPF_REG_0, 0, 0));
  code.emit(insn::alu_imm(BPF_AND, state, other_leaves));
  code.jump_imm(BPF_JEQ, state, 0, count);
  code.emit(insn::alu32_imm(BPF_MOV, said, static_cast<int32_t>(Verdict::next)));
  code.jump(count);

  code.place(other_records);
  code.emit(insn::alu_imm(BPF_AND, state, other_waits));
  code.jump_imm(BPF_JEQ, state, 0, is_behind);
  code.emit(insn::store_imm(BPF_W, BPF_REG_0, 0, 1));
  code.emit(insn::alu32_imm(BPF_MOV, said, static_cast<int32_t>(Verdict::next)));
  code.jump(out);

  code.place(is_behind);
  code.emit(insn::load(BPF_W, BPF_REG_1, BPF_REG_0, 0));
  code.jump_imm(BPF_JEQ, BPF_REG_1, 0, out);
  code.emit(insn::store_imm(BPF_W, BPF_REG_0, 0, 0));  // the other one took over since it left this packet
  code.place(count);
}

std::vector<bpf_insn> count_and_pass_by(int left, int counter, const FilterProgram::Observer& observer) {
  Assembler code;
  const Assembler::Label out = code.new_label();
  load_cell(code, said, observer.verdict_map, observer.verdict_offset);
  if (observer.recording_offset) take_turns(code, left, observer, *observer.recording_offset, out);
  look_up(code, counter);
  code.jump_imm(BPF_JEQ, BPF_REG_0, 0, out);
  code.emit(insn::load(BPF_DW, BPF_REG_1, BPF_REG_0, 0));
  code.emit(insn::alu_imm(BPF_ADD, BPF_REG_1, 1));
  code.emit(insn::store(BPF_DW, BPF_REG_0, 0, BPF_REG_1));
  code.place(out);
  code.emit(insn::alu(BPF_MOV, BPF_REG_0, said));
  code.emit(insn::exit());
  return code.link();
}

// A tail call works only between programs of the same attach type (Linux 6.18), and the kernel does not report the type
// that a program was loaded with: zero, or that of a hook.
std::array<uint32_t, 5> attach_types() {
  return {0, hook::attach_type(Hook::Kind::netkit_primary), hook::attach_type(Hook::Kind::netkit_peer),
          hook::attach_type(Hook::Kind::tcx_ingress), hook::attach_type(Hook::Kind::tcx_egress)};
}

Fd try_load(const std::string& name, std::span<const bpf_insn> code, uint32_t attach_type, std::span<char> log,
            uint32_t log_level = 0) {
  LIBBPF_OPTS(bpf_prog_load_opts, options);
  options.expected_attach_type = static_cast<bpf_attach_type>(attach_type);
  options.log_buf = log.data();  // written when loading fails
  options.log_size = static_cast<uint32_t>(log.size());
  options.log_level = log_level;
  return Fd(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, name.c_str(), "Dual MIT/GPL", code.data(), code.size(), &options));
}

// Whether the verifier gave up: it walks a million instructions, or 8,192 branches in a row (kernel/bpf/verifier.c).
bool is_too_long(int error, std::string_view log) {
  return error == E2BIG || log.find("too complex") != std::string_view::npos ||
         log.find("program is too large") != std::string_view::npos;
}

Program load(std::span<const bpf_insn> code, Side side) {
  const std::string name = std::string("filter_") + name_of(side);
  int error = 0;
  uint32_t tried = 0;
  for (const uint32_t attach_type : attach_types()) {
    Fd program = try_load(name, code, attach_type, {});
    if (program) return {std::move(program), name};
    error = errno;
    if (error == EPERM || is_shortage(error)) throw Error(error, "load program '" + name + "'", advice(error));
    if (error == EINVAL) continue;  // of another attach type
    tried = attach_type;
    break;
  }
  std::vector<char> log(log_size);
  Fd program = try_load(name, code, tried, log);
  if (program) return {std::move(program), name};
  error = errno;
  if (error == ENOSPC) {  // before 6.4 a full log loses its end: ask only for the error
    std::ranges::fill(log, '\0');
    static_cast<void>(try_load(name, code, tried, log, log_of_errors));
    error = errno;
  }
  if (is_too_long(error, log.data()))
    throw std::invalid_argument("the filter is too long: it compiles to " + std::to_string(code.size()) +
                                " instructions, more than the kernel's verifier follows; use fewer "
                                "terms, or join networks");
  if (log[0] != '\0' && error != EPERM && !is_shortage(error)) throw VerifierError(error, name, log.data());
  throw Error(error, "load program '" + name + "'", advice(error));
}

// A program array with one program. As the first in the array, it determines the attach type that others must have.
Fd hold(int program) {
  Fd array = create_map(BPF_MAP_TYPE_PROG_ARRAY, "filter_match", sizeof(uint32_t));
  const uint32_t key = 0;
  if (bpf_map_update_elem(array.get(), &key, &program, BPF_ANY) != 0)
    throw Error(errno, "put a filter before a program");
  return array;
}

}  // namespace

FilterProgram::FilterProgram(std::span<const sock_filter> classic, const Observer& observer, const FilterProgram* first)
    : observer_(hold(observer.program)),
      left_(first != nullptr || !observer.recording_offset
                ? Fd()
                : create_map(BPF_MAP_TYPE_PERCPU_ARRAY, "left_behind", sizeof(uint64_t))),
      filtered_(first != nullptr ? Fd() : create_map(BPF_MAP_TYPE_PERCPU_ARRAY, "filtered", sizeof(uint64_t))),
      program_(
          load(classic::translate(classic, run_observer(observer_.get(), observer),
                                  count_and_pass_by((first != nullptr ? *first : *this).left_.get(),
                                                    (first != nullptr ? *first : *this).filtered_.get(), observer)),
               observer.side)) {}

uint64_t FilterProgram::filtered() const { return sum_counters<1>(filtered_.get(), 0)[0]; }

}  // namespace netkit_bpf
