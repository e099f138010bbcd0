// SPDX-License-Identifier: MIT
// A batch as an Arrow table: what pyarrow, polars, duckdb and pandas read.
//
// It has a column for each field of a packet event, null where the field does not apply. Times are UTC in nanoseconds.
// Names and addresses are dictionaries of strings: every consumer can group, compare and print them directly, and they
// take four bytes per row.
#pragma once

#include "events/arrow.hpp"
#include "events/batch.hpp"

namespace netkit_bpf::table {

// The exported structures belong to the consumer, who releases them; they are independent of the batch.
void export_schema(const EventBatch& batch, ArrowSchema* out);
void export_array(const EventBatch& batch, ArrowArray* out);
// A stream of one array, which is made on request.
void export_stream(const EventBatch& batch, ArrowArrayStream* out);

}  // namespace netkit_bpf::table
