// SPDX-License-Identifier: MIT
#include "flows/flow_reader.hpp"

#include <arpa/inet.h>
#include <netkit_bpf/event.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "base/side.hpp"
#include "base/thread.hpp"
#include "flows/patience.hpp"

namespace netkit_bpf {

namespace {

constexpr int check_every_ms = 200;
constexpr size_t drained_at_once = 256 << 10;  // bytes
constexpr size_t sets_between_looks = 1024;    // while tables are copied, the ring must not fill
constexpr int most_tries = 16;

// A tick is what jiffies count; a coarse clock is read at each.
int64_t tick() {
  timespec resolution{};
  ::clock_getres(CLOCK_MONOTONIC_COARSE, &resolution);
  return int64_t{resolution.tv_sec} * 1'000'000'000 + resolution.tv_nsec;
}

FlowSum sum_of(const nk_flow_record& record) {
  return {.flow = record.flow, .start = record.start, .last = record.last, .tcp_flags = record.tcp_flags};
}

void watch(const Fd& epoll, int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) throw Error(errno, "watch the flows that make room");
}

}  // namespace

FlowReader::FlowReader(Options options)
    : options_(std::move(options)),
      tick_ns_(tick()),
      owner_(::getpid()),
      maps_(std::make_unique<FlowMaps>(options_.sets, options_.unattributed, options_.names->size())),
      ring_(std::make_unique<Ring>(options_.evicted)),
      sums_(options_.names->size(), options_.most_flows),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!epoll_ || !stop_) throw Error(errno, "make an epoll instance");
  watch(epoll_, stop_.get(), EPOLLIN);
  // Edges: most records wake nobody, and are there all the same.
  watch(epoll_, options_.evicted, EPOLLIN | EPOLLET);
  thread_ = std::make_unique<std::thread>(
      start_thread("start the thread of flow metrics", "netkit-flows", [this] { run(); }));
}

FlowReader::~FlowReader() {
  if (::getpid() != owner_) {
    // The handle names a thread of the parent: it is neither joined nor detached, but forgotten.
    new (std::nothrow) std::unique_ptr<std::thread>(std::move(thread_));
    return;
  }
  stop_thread();
}

void FlowReader::stop_thread() {
  const std::lock_guard lock(thread_mutex_);
  if (!thread_) return;
  eventfd_write(stop_.get(), 1);
  thread_->join();
  thread_.reset();
}

void FlowReader::run() {
  while (true) {
    std::array<epoll_event, 2> events{};
    const int ready =
        ::epoll_wait(epoll_.get(), events.data(), events.size(), options_.checks.empty() ? -1 : check_every_ms);
    for (int i = 0; i < ready; ++i)
      if (events.at(static_cast<size_t>(i)).data.fd == stop_.get()) return;
    if (ready > 0) {
      const std::lock_guard lock(mutex_);
      try {
        drain(nullptr);
      } catch (...) {  // told by the next snapshot
        failure_ = std::current_exception();
        return;
      }
    } else {
      run_checks();
    }
  }
}

void FlowReader::run_checks() {
  std::erase_if(options_.checks, [](const std::function<void()>& check) {
    try {
      check();
      return false;
    } catch (const std::exception&) {  // the pair is gone: what it counted stands
      return true;
    }
  });
}

// Adds what the ring holds, or puts it aside; returns the bytes.
size_t FlowReader::drain(std::vector<nk_flow_record>* pending) {
  size_t drained = 0;
  std::vector<FlowSum> gathered;
  while (true) {
    const Ring::Waiting waiting = ring_->waiting(drained_at_once);
    if (waiting.run.empty()) break;
    drained += waiting.run.size();
    for (const Record& each : Records(waiting.run)) {
      if (each.data().size() != sizeof(nk_flow_record)) continue;
      nk_flow_record record;
      std::memcpy(&record, each.data().data(), sizeof(record));
      if (record.flow.key.pair >= options_.names->size()) continue;
      if (pending != nullptr)
        pending->push_back(record);
      else
        gathered.push_back(sum_of(record));
    }
    ring_->skip(waiting.run.size(), waiting.last);
    sums_.add(gathered);
    gathered.clear();
  }
  ring_->release();
  return drained;
}

// All that is in the ring by now, also behind a record that another CPU is just writing, for some nanoseconds.
void FlowReader::drain_all(std::vector<nk_flow_record>& pending) {
  const size_t there = ring_->fill();
  size_t drained = 0;
  Patience patience;
  while (drained < there) {
    const size_t found = drain(&pending);
    drained += found;
    if (found == 0 && !patience.wait()) return;
  }
}

// Adds what the tables hold to `sums`, and what found the ring full; versions[i] is that of the set i which was copied.
void FlowReader::copy_tables(FlowSums& sums, std::vector<uint32_t>& versions, std::vector<nk_flow_record>& pending) {
  const auto same = [](const nk_flow_unattributed& one, const nk_flow_unattributed& other) {
    return one.flows == other.flows;
  };
  std::vector<FlowSum> copied;
  for (size_t cpu = 0; cpu < maps_->cpus(); ++cpu) {
    // While flows find the ring full, one that is copied may be counted there too: then once more. The ring has just
    // been emptied, so that this takes one try, nearly always.
    for (int tries = 0; tries < most_tries; ++tries) {
      const std::vector<nk_flow_unattributed> before = maps_->unattributed(cpu);
      std::atomic_thread_fence(std::memory_order_acquire);
      copied.clear();
      for (size_t i = cpu * maps_->sets_per_cpu(); i < (cpu + 1) * maps_->sets_per_cpu(); ++i) {
        if (i % sets_between_looks == 0 && ring_->fill() > ring_->size() / 4) drain(&pending);
        nk_flow_set own;
        versions[i] = 0;
        if (!maps_->copy(i, own)) continue;
        versions[i] = own.version;
        for (size_t way = 0; way < NK_FLOW_WAYS; ++way) {
          if (own.tags[way] == 0 || own.flows[way].key.pair >= options_.names->size()) continue;
          copied.push_back({.flow = own.flows[way],
                            .start = own.starts[way],
                            .last = own.last[way],
                            .tcp_flags = own.tcp_flags[way]});
        }
      }
      std::atomic_thread_fence(std::memory_order_acquire);
      const std::vector<nk_flow_unattributed> after = maps_->unattributed(cpu);
      if (!std::ranges::equal(before, after, same) && tries + 1 < most_tries) {
        drain(&pending);
        continue;
      }
      for (size_t row = 0; row < before.size(); ++row) sums.add_unattributed(row, before[row]);
      break;
    }
    sums.add(copied);
  }
}

// What is in a set is not in the ring, and the other way round: a record that left its set before that was copied is
// added, and one that left it later is kept for the next time.
FlowTable FlowReader::take() {
  drain(nullptr);
  std::vector<nk_flow_record> pending;
  std::vector<uint32_t> versions(maps_->cpus() * maps_->sets_per_cpu());
  FlowSums live(options_.names->size(), FlowSums::unlimited);
  copy_tables(live, versions, pending);
  drain_all(pending);
  std::vector<nk_flow_record> later;
  for (const nk_flow_record& record : pending) {
    const bool is_earlier =
        record.set >= versions.size() || static_cast<int32_t>(record.version - versions[record.set]) < 0;
    if (is_earlier)
      sums_.add(sum_of(record));
    else
      later.push_back(record);
  }
  live.add(sums_.flows());
  for (size_t row = 0; row < sums_.unattributed().size(); ++row) live.add_unattributed(row, sums_.unattributed()[row]);
  for (const nk_flow_record& record : later) sums_.add(sum_of(record));

  std::vector<FlowRow> rows;
  rows.reserve(live.flows().size() + live.unattributed().size());
  const int64_t offset = clock_.now();
  for (const FlowSum& sum : live.flows())
    if (sum.flow.counts.skbs != 0) rows.push_back(to_row(sum, offset));
  for (size_t row = 0; row < live.unattributed().size(); ++row) {
    const nk_flow_unattributed& sum = live.unattributed()[row];
    if (sum.flows == 0) continue;
    FlowRow made;
    made.flows = sum.flows;
    made.packets = sum.counts.packets;
    made.skbs = sum.counts.skbs;
    made.bytes = sum.counts.bytes;
    made.known = known_pair | known_side;
    made.identity.pair = static_cast<uint16_t>(row / NK_SIDES);
    made.identity.side = static_cast<uint8_t>(row % NK_SIDES);
    made.identity.known = made.known;
    rows.push_back(made);
  }
  return {std::move(rows), options_.names};
}

FlowRow FlowReader::to_row(const FlowSum& sum, int64_t realtime_offset) const {
  const nk_flow_key& key = sum.flow.key;
  const auto to_time = [&](uint64_t jiffies) {
    return options_.monotonic_ns + static_cast<int64_t>(jiffies - options_.jiffies) * tick_ns_ + realtime_offset;
  };
  FlowIdentity identity;
  unsigned known = known_pair | known_side | known_ethertype;
  identity.pair = key.pair;
  identity.side = static_cast<uint8_t>((key.flags & NK_FLOW_PEER) != 0 ? Side::peer : Side::primary);
  if ((key.flags & (NK_FLOW_IPV4 | NK_FLOW_IPV6)) != 0) {
    const bool is_ipv6 = (key.flags & NK_FLOW_IPV6) != 0;
    known |= known_family | known_src | known_dst;
    identity.family = is_ipv6 ? 6 : 4;
    identity.ethertype = is_ipv6 ? 0x86dd : 0x0800;
    std::memcpy(identity.src.data(), &key.src[0], identity.src.size());
    std::memcpy(identity.dst.data(), &key.dst[0], identity.dst.size());
  } else {
    identity.ethertype = ntohs(key.src_port);
  }
  if ((key.flags & NK_FLOW_PROTOCOL) != 0) {
    known |= known_protocol;
    identity.protocol = key.protocol;
  }
  if ((key.flags & NK_FLOW_PORTS) != 0) {
    known |= known_src_port | known_dst_port;
    identity.src_port = ntohs(key.src_port);
    identity.dst_port = ntohs(key.dst_port);
  }
  if ((key.flags & NK_FLOW_ICMP) != 0) {
    known |= known_icmp;
    identity.icmp_type = static_cast<uint8_t>(ntohs(key.src_port) >> 8);
    identity.icmp_code = static_cast<uint8_t>(ntohs(key.src_port) & 0xff);
  }
  if ((key.flags & NK_FLOW_TCP) != 0) known |= known_tcp_flags;
  identity.known = static_cast<uint16_t>(known);
  known |= known_times;
  if (sum.start.handshake != 0) known |= known_handshake;
  return {.identity = identity,
          .flows = 1,
          .packets = sum.flow.counts.packets,
          .skbs = sum.flow.counts.skbs,
          .bytes = sum.flow.counts.bytes,
          .first_ns = to_time(sum.start.first),
          .last_ns = to_time(sum.last),
          .handshake_ns = sum.start.handshake,
          .known = static_cast<uint16_t>(known),
          .tcp_flags = sum.tcp_flags};
}

FlowTable FlowReader::snapshot() {
  const std::lock_guard lock(mutex_);
  if (last_) return *last_;
  if (failure_) std::rethrow_exception(failure_);
  return take();
}

void FlowReader::close() {
  stop_thread();
  const std::lock_guard lock(mutex_);
  if (last_) return;
  std::exception_ptr failure = failure_;
  try {
    if (!failure) last_ = take();
  } catch (const std::exception&) {
    failure = std::current_exception();
  }
  if (!last_) last_ = FlowTable({}, options_.names);
  ring_->leave();
  ring_.reset();
  maps_.reset();
  epoll_ = {};
  stop_ = {};
  options_.checks.clear();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace netkit_bpf
