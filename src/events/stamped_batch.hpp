// SPDX-License-Identifier: MIT
// A batch whose rows say where they come from and what their number is, so that rows of many hosts and streams can be
// told apart and counted. What is the same for all of them is in no record: it becomes columns as a table is made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "events/arrow.hpp"
#include "events/batch.hpp"

namespace netkit_bpf {

struct Stamp {
  uint16_t schema_version = 0;
  std::string host;
  std::string boot_id;
  std::string stream;
  uint64_t first = 0;                                  // the number of the first row; those of the others follow
  std::vector<std::optional<uint64_t>> netns_cookies;  // of the pairs, by number; others have none
};

struct StampedBatch {
  EventBatch batch;
  Stamp stamp;

  [[nodiscard]] std::optional<uint64_t> netns_cookie(size_t row) const;
};

namespace table {

// As for a plain batch (arrow_table.hpp), with the columns of the stamp behind those of the events.
void export_stamped_schema(const StampedBatch& stamped, ArrowSchema* out);
void export_stamped_array(const StampedBatch& stamped, ArrowArray* out);
void export_stamped_stream(const StampedBatch& stamped, ArrowArrayStream* out);

}  // namespace table

}  // namespace netkit_bpf
