// SPDX-License-Identifier: MIT
#include "base/error.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/kernel_release.hpp"

namespace netkit_bpf {

namespace {

// The verifier's reason is in the last lines of its log, before its statistics. A line of source code precedes the
// instructions compiled from it.
std::string reason(const std::string& log) {
  constexpr size_t lines_that_matter = 4;
  std::vector<std::string> lines;
  size_t start = 0;
  size_t source = 0;  // where the last line of source code is, plus 1
  while (start < log.size()) {
    const size_t end = std::min(log.find('\n', start), log.size());
    const std::string line = log.substr(start, end - start);
    start = end + 1;
    if (line.find("END PROG LOAD LOG") != std::string::npos) break;
    if (line.empty() || line.starts_with("processed ") || line.starts_with("libbpf:")) continue;
    lines.push_back(line);
    if (line.starts_with("; ")) source = lines.size();
  }
  const size_t first = lines.size() - std::min(lines.size(), lines_that_matter);
  std::string tail;
  if (source > 0 && source <= first) tail += "\n  " + lines[source - 1];
  for (size_t i = first; i < lines.size(); ++i) tail += "\n  " + lines[i];
  return tail;
}

}  // namespace

Error::Error(int code, const std::string& operation, const std::string& detail)
    : std::system_error(code, std::generic_category(), operation),
      text_(operation + ": " + std::generic_category().message(code)) {
  if (!detail.empty()) text_ += " (" + detail + ")";
}

NotSupported::NotSupported(const std::string& what, const std::string& since, const std::string& detail)
    : Error(EOPNOTSUPP, what,
            (since.empty() ? "" : "needs Linux " + since + (detail.empty() ? "" : " ")) + detail + "; this kernel is " +
                kernel_release()),
      feature(what),
      needs(since),
      running(kernel_release()) {}

VerifierError::VerifierError(int code, const std::string& program, std::string verifier_log, const std::string& cause)
    : Error(code, "load program '" + program + "'",
            (cause.empty() ? "" : cause + "; ") + "refused by the verifier; the whole log is in .log" +
                reason(verifier_log)),
      log(std::move(verifier_log)) {}

}  // namespace netkit_bpf
