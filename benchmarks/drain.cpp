// SPDX-License-Identifier: MIT
// This package's core without Python, beside peers/consumer.c.
//
// drain MAP_ID [record]
//
// For each line on stdin reads a ring buffer empty, by the block or record by record, and says on stderr how many
// records there were and how many nanoseconds that took.
#include <bpf/bpf.h>

#include <chrono>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>

#include "base/fd.hpp"
#include "ring/stream.hpp"

namespace nk = netkit_bpf;

namespace {

size_t count_blocks(nk::Stream& stream) {
  size_t records = 0;
  while (const auto slice = stream.take(std::numeric_limits<size_t>::max())) records += slice->records;
  return records;
}

size_t count_records(nk::Stream& stream) {
  size_t records = 0;
  while (stream.next()) ++records;
  return records;
}

template <typename Count>
size_t drain(nk::Stream& stream, Count count) {
  size_t records = count(stream);
  for (;;) {
    stream.wait({});  // looks at the ring
    const size_t more = count(stream);
    if (more == 0) return records;
    records += more;
  }
}

void serve(uint32_t map, bool by_record) {
  const nk::Fd ring(bpf_map_get_fd_by_id(map));
  if (!ring) throw std::runtime_error("there is no such map");
  nk::StreamOptions options;
  options.rings = {ring.get()};
  nk::Stream stream(options);
  std::fputs("ready\n", stderr);
  while (std::getchar() == '\n') {
    const auto start = std::chrono::steady_clock::now();
    const size_t records = by_record ? drain(stream, count_records) : drain(stream, count_blocks);
    const std::chrono::nanoseconds spent = std::chrono::steady_clock::now() - start;
    std::fprintf(stderr, "%zu %lld\n", records, static_cast<long long>(spent.count()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    serve(static_cast<uint32_t>(std::stoul(argc > 1 ? argv[1] : "")), argc > 2);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
