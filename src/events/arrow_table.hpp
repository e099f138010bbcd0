// SPDX-License-Identifier: MIT
// A batch as an Arrow table: what pyarrow, polars, duckdb and pandas read.
//
// It has a column for each field of a packet event, null where the field does not apply. Times are UTC in nanoseconds.
// Names and addresses are dictionaries of strings: every consumer groups, compares and prints them as they are, and
// they take four bytes a row.
#pragma once

#include "events/arrow.hpp"
#include "events/batch.hpp"

namespace netkit_bpf::table {

// What is exported belongs to the consumer, who releases it; it needs nothing of the batch any more.
void export_schema(const EventBatch& batch, ArrowSchema* out);
void export_array(const EventBatch& batch, ArrowArray* out);
// A stream of one array, made when it is asked for.
void export_stream(const EventBatch& batch, ArrowArrayStream* out);

}  // namespace netkit_bpf::table
