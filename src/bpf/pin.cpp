// SPDX-License-Identifier: MIT
#include "bpf/pin.hpp"

#include <bpf/bpf.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "base/error.hpp"
#include "base/privilege.hpp"

namespace netkit_bpf::pin {

namespace {

// Whether the path lies on a BPF file system, whether or not it exists; true if its directory cannot be examined.
bool is_on_bpf_file_system(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  struct statfs found{};
  return ::statfs(directory.c_str(), &found) != 0 || found.f_type == BPF_FS_MAGIC;
}

// The kind of BPF object behind a descriptor, by the name of its anonymous inode.
std::string kind_of(int fd) {
  // The name for links has changed over time.
  constexpr std::array<std::pair<std::string_view, const char*>, 4> kinds{{{"anon_inode:bpf_link", "link"},
                                                                           {"anon_inode:bpf-link", "link"},
                                                                           {"anon_inode:bpf-map", "map"},
                                                                           {"anon_inode:bpf-prog", "program"}}};
  std::array<char, 64> target{};
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
  if (size < 0) throw Error(errno, "read " + path);
  const std::string_view found(target.data(), static_cast<size_t>(size));
  for (const auto& [inode, kind] : kinds) {
    if (found == inode) return kind;
  }
  return std::string(found);
}

}  // namespace

void create(int fd, const std::string& path, const std::string& what) {
  if (bpf_obj_pin(fd, path.c_str()) == 0) return;
  const int error = errno;
  throw Error(error, "pin " + what + " at " + path, advice(error, path));
}

void remove(const std::string& path, const std::string& what) {
  if (::unlink(path.c_str()) != 0) throw Error(errno, "unpin " + what + " from " + path);
}

Fd open(const std::string& path, const std::string& kind) {
  Fd fd(bpf_obj_get(path.c_str()));
  if (!fd) {
    const int error = errno;
    throw Error(error, "open the " + kind + " pinned at " + path, advice(error, path));
  }
  if (const std::string found = kind_of(fd.get()); found != kind)
    throw std::invalid_argument("what is pinned at " + path + " is a " + found + ", not a " + kind);
  return fd;
}

std::string advice(int error, const std::string& path) {
  if (!is_on_bpf_file_system(path)) return "it is not on a BPF file system: mount -t bpf bpf /sys/fs/bpf";
  if (path.find('.', path.rfind('/') + 1) != std::string::npos) return "a name on a BPF file system has no dots";
  switch (error) {
    case EPERM:
    case EACCES:
      return "needs CAP_BPF, and rights on the path";
    case ENOENT:
      return "no such directory, or nothing is pinned there";
    default:
      return shortage_advice(error);
  }
}

}  // namespace netkit_bpf::pin
