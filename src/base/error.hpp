// SPDX-License-Identifier: MIT
// A refusal by the kernel, with everything a user needs to act on it.
#pragma once

#include <string>
#include <system_error>

namespace netkit_bpf {

// what() reads "operation: the errno's text (detail)".
class Error : public std::system_error {
 public:
  Error(int code, const std::string& operation, const std::string& detail = {});

  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }
  [[nodiscard]] int number() const noexcept { return code().value(); }

 private:
  std::string text_;
};

// A feature that this kernel does not have.
class NotSupported : public Error {
 public:
  NotSupported(const std::string& what, const std::string& since, const std::string& detail = {});

  std::string feature;
  std::string needs;    // the first kernel release that has it, "6.7"; empty where none is known
  std::string running;  // the release of the kernel that runs
};

// The verifier refused a program. The log is the whole text of libbpf and the verifier; `cause` is a short explanation,
// if more is known than the last lines of the log say.
class VerifierError : public Error {
 public:
  VerifierError(int code, const std::string& program, std::string verifier_log, const std::string& cause = {});

  std::string log;
};

}  // namespace netkit_bpf
