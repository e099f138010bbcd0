// SPDX-License-Identifier: MIT
#include "flows/flow_sums.hpp"

#include <algorithm>

namespace netkit_bpf {

namespace {

void add_counts(nk_flow_counts& to, const nk_flow_counts& counts) {
  to.packets += counts.packets;
  to.skbs += counts.skbs;
  to.bytes += counts.bytes;
}

}  // namespace

void FlowSums::add(const FlowSum& sum) {
  const auto key_at = [this](uint32_t number) -> const nk_flow_key& { return flows_[number].flow.key; };
  const uint32_t number = index_.find_or_add(sum.flow.key, flows_.size(), key_at);
  if (number == flows_.size()) {
    flows_.push_back(sum);
    if (flows_.size() > most_) forget_oldest();
    return;
  }
  FlowSum& known = flows_[number];
  add_counts(known.flow.counts, sum.flow.counts);
  known.start.first = std::min(known.start.first, sum.start.first);
  // The latest handshake that is known.
  if (sum.start.handshake != 0 && (known.start.handshake == 0 || sum.last >= known.last))
    known.start.handshake = sum.start.handshake;
  known.last = std::max(known.last, sum.last);
  known.tcp_flags |= sum.tcp_flags;
}

// Flows lie anywhere: without this each look-up waits twice for memory.
void FlowSums::add(std::span<const FlowSum> sums) {
  constexpr size_t at_a_time = 16;
  for (size_t first = 0; first < sums.size(); first += at_a_time) {
    const std::span<const FlowSum> some = sums.subspan(first, std::min(at_a_time, sums.size() - first));
    for (const FlowSum& sum : some) index_.prefetch(sum.flow.key);
    for (const FlowSum& sum : some) {
      const uint32_t guess = index_.guess(sum.flow.key);
      if (guess >= flows_.size()) continue;
      __builtin_prefetch(&flows_[guess]);
      __builtin_prefetch(&flows_[guess].start);
    }
    for (const FlowSum& sum : some) add(sum);
  }
}

void FlowSums::add_unattributed(size_t row, const nk_flow_unattributed& sum) {
  nk_flow_unattributed& to = unattributed_.at(row);
  add_counts(to.counts, sum.counts);
  to.flows += sum.flows;
}

// An eighth of them, so that it costs little for each.
void FlowSums::forget_oldest() {
  const auto count = static_cast<ptrdiff_t>(flows_.size() / 8 + 1);
  const auto end = flows_.begin() + count;
  std::ranges::nth_element(flows_, end - 1, {}, &FlowSum::last);
  for (auto each = flows_.begin(); each != end; ++each) {
    const nk_flow& flow = each->flow;
    const size_t side = (flow.key.flags & NK_FLOW_PEER) != 0 ? NK_PEER : NK_PRIMARY;
    add_unattributed(size_t{flow.key.pair} * NK_SIDES + side, {flow.counts, 1});
  }
  flows_.erase(flows_.begin(), end);
  index_.clear();
  const auto key_at = [this](uint32_t number) -> const nk_flow_key& { return flows_[number].flow.key; };
  for (size_t i = 0; i < flows_.size(); ++i) index_.find_or_add(flows_[i].flow.key, i, key_at);
}

}  // namespace netkit_bpf
