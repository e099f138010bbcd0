// SPDX-License-Identifier: MIT
// A table of flows for Arrow's C interfaces.
#pragma once

#include <string>

#include "events/arrow.hpp"
#include "flows/flow_table.hpp"

namespace netkit_bpf::flow_arrow {

void export_schema(ArrowSchema* out);
void export_array(const FlowTable& table, ArrowArray* out);
void export_stream(const FlowTable& table, ArrowArrayStream* out);

// The text of a row's address of 16 bytes.
std::string address_text(const FlowRow& row, const uint8_t* address);

}  // namespace netkit_bpf::flow_arrow
