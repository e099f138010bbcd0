// SPDX-License-Identifier: MIT
#include "observer/pcap_expression.hpp"

#include <dlfcn.h>

#include <cctype>
#include <cerrno>
#include <memory>
#include <stdexcept>
#include <string_view>

#include "base/error.hpp"
#include "observer/classic_to_ebpf.hpp"

namespace netkit_bpf::expression {

namespace {

// The used part of libpcap, whose interface has not changed since 0.8, so that the build does not need pcap.h.
struct pcap;
struct bpf_program {
  unsigned int length;
  sock_filter* instructions;
};
constexpr int dlt_en10mb = 1;
constexpr int longest_packet = 262144;
constexpr unsigned int netmask_unknown = 0xffffffff;

// The one that a wheel has beside the extension (tools/wheels/repair.py).
std::string own_libpcap() {
  static const char here = 0;
  Dl_info info{};
  if (::dladdr(&here, &info) == 0 || info.dli_fname == nullptr) return "libpcap-netkit-bpf.so";
  const std::string file = info.dli_fname;
  return file.substr(0, file.rfind('/') + 1) + "libpcap-netkit-bpf.so";
}

class Libpcap {
 public:
  Libpcap() {
    for (const std::string& name : {own_libpcap(), std::string("libpcap.so.0.8"), std::string("libpcap.so.1"),
                                    std::string("libpcap.so")}) {  // Debian's name, everybody's, and -dev's
      // It stays loaded: libraries that it uses may not survive unloading.
      library_.reset(::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE));
      if (library_) break;
    }
    if (!library_)
      throw Error(ENOENT, "load libpcap, which filters need",
                  "install the package libpcap0.8 (Debian 12), libpcap0.8t64 (Debian 13, Ubuntu) or libpcap");
    find("pcap_open_dead", open_dead);
    find("pcap_compile", compile);
    find("pcap_geterr", geterr);
    find("pcap_freecode", freecode);
    find("pcap_close", close);
    find("bpf_filter", run);
  }

  pcap* (*open_dead)(int link_type, int snaplen) = nullptr;
  int (*compile)(pcap*, bpf_program*, const char* text, int optimize, unsigned int netmask) = nullptr;
  char* (*geterr)(pcap*) = nullptr;
  void (*freecode)(bpf_program*) = nullptr;
  void (*close)(pcap*) = nullptr;
  unsigned int (*run)(const sock_filter*, const unsigned char* bytes, unsigned int length,
                      unsigned int captured) = nullptr;

 private:
  struct Close {
    void operator()(void* library) const noexcept { ::dlclose(library); }
  };

  template <typename Function>
  void find(const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(::dlsym(library_.get(), name));
    if (function == nullptr) throw Error(ENOENT, std::string("find ") + name + " in libpcap");
  }

  std::unique_ptr<void, Close> library_;
};

// Returns libpcap's error text; empty if there is none.
std::string try_compile(const Libpcap& libpcap, const std::string& text, std::vector<sock_filter>& program) {
  const std::unique_ptr<pcap, void (*)(pcap*)> handle(libpcap.open_dead(dlt_en10mb, longest_packet), libpcap.close);
  if (!handle) throw Error(ENOMEM, "open libpcap");
  bpf_program compiled{};
  if (libpcap.compile(handle.get(), &compiled, text.c_str(), 1, netmask_unknown) != 0)
    return libpcap.geterr(handle.get());
  program.assign(compiled.instructions, compiled.instructions + compiled.length);
  libpcap.freecode(&compiled);
  return {};
}

bool is_syntax_error(const std::string& complaint) { return complaint.find("syntax error") != std::string::npos; }

// The end of the token that begins at `at`, roughly as libpcap's scanner sees it.
size_t token_end(std::string_view text, size_t at) {
  const auto is_word = [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return std::isalnum(byte) != 0 || byte >= 0x80 || std::string_view("_.:-\\").find(c) != std::string_view::npos;
  };
  const auto is_operator = [](char c) { return std::string_view("&|<>=!").find(c) != std::string_view::npos; };
  size_t end = at + 1;
  if (is_word(text[at]))
    while (end < text.size() && is_word(text[end])) ++end;
  else if (is_operator(text[at]))
    while (end < text.size() && is_operator(text[end])) ++end;
  return end;
}

// libpcap reports "syntax error" without its place. But its parser stops at the first wrong token, and its scanner
// reports a broken MAC address: with one appended to a part of the text, the error shows whether the parser got that
// far.
std::string place_of_syntax_error(const Libpcap& libpcap, const std::string& text) {
  std::vector<sock_filter> unused;
  for (size_t at = 0; at < text.size();) {
    if (std::isspace(static_cast<unsigned char>(text[at])) != 0) {
      ++at;
      continue;
    }
    const size_t end = token_end(text, at);
    if (is_syntax_error(try_compile(libpcap, text.substr(0, end) + " 0:0:", unused)))
      return "at '" + text.substr(at, end - at) + "', character " + std::to_string(at + 1);
    at = end;
  }
  return "at its end";
}

}  // namespace

std::vector<sock_filter> compile(const std::string& text) {
  const Libpcap libpcap;
  std::vector<sock_filter> program;
  const std::string complaint = try_compile(libpcap, text, program);
  if (complaint.empty()) {
    try {
      classic::check_loads(program);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument("filter '" + text + "': " + error.what());
    }
    return program;
  }
  std::string message = "filter '" + text + "': " + complaint;
  if (is_syntax_error(complaint)) message += " " + place_of_syntax_error(libpcap, text);
  throw std::invalid_argument(message);
}

std::vector<uint8_t> match(const std::vector<sock_filter>& program, std::span<const Captured> frames) {
  std::vector<uint8_t> matches;
  matches.reserve(frames.size());
  if (program.empty()) return std::vector<uint8_t>(frames.size());
  const Libpcap libpcap;
  for (const Captured& frame : frames) {
    const unsigned int found =
        libpcap.run(program.data(), frame.bytes.data(), frame.length, static_cast<unsigned int>(frame.bytes.size()));
    matches.push_back(found != 0 ? 1 : 0);
  }
  return matches;
}

}  // namespace netkit_bpf::expression
