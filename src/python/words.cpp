// SPDX-License-Identifier: MIT
// Words with their numbers, for enums.py.
#include "base/words.hpp"

#include "base/side.hpp"
#include "base/verdict.hpp"
#include "bpf/hook.hpp"
#include "devices/pair_options.hpp"
#include "devices/pair_watch.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

template <typename Number, size_t count>
py::dict to_dict(const Words<Number, count>& words) {
  py::dict numbers;
  for (const Word<Number>& each : words) numbers[each.text] = static_cast<int64_t>(each.number);
  return numbers;
}

}  // namespace

void bind_words(py::module_& module) {
  py::dict words;
  words["AddrGenMode"] = to_dict(addrgenmode_words);
  words["ChangeKind"] = to_dict(change_words);
  words["Direction"] = to_dict(direction_words);
  words["Mode"] = to_dict(netkit::mode_words);
  words["Policy"] = to_dict(netkit::policy_words);
  words["Rank"] = to_dict(rank_words);
  words["Scrub"] = to_dict(netkit::scrub_words);
  words["Side"] = to_dict(side_words);
  words["Verdict"] = to_dict(verdict_words);
  module.attr("WORDS") = words;
}

}  // namespace netkit_bpf::python
