// SPDX-License-Identifier: MIT
// After lib/namespace.c of iproute2, netns_switch().
#include "base/netns_exec.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "base/error.hpp"

namespace netkit_bpf::netns {

namespace {

void show_own_sys(const std::string& source) {
  unsigned long flags = 0;
  struct statvfs below{};
  // If it cannot be unmounted, a new mount covers it; only a read-only mount may cover a read-only one.
  if (::umount2("/sys", MNT_DETACH) != 0 && ::statvfs("/sys", &below) == 0 && (below.f_flag & ST_RDONLY) != 0)
    flags = MS_RDONLY;
  if (::mount(source.c_str(), "/sys", "sysfs", flags, nullptr) != 0) return;
  static_cast<void>(::mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=0700"));  // the kernel may lack it
}

void bind_etc(const std::string& name) {
  std::error_code none;  // mostly ENOENT: no such directory
  for (const auto& file : std::filesystem::directory_iterator("/etc/netns/" + name, none)) {
    const std::string target = "/etc/" + file.path().filename().string();
    static_cast<void>(::mount(file.path().c_str(), target.c_str(), "none", MS_BIND, nullptr));  // as ip does
  }
}

// Puts the text in the place of /etc/hosts. Its file is on a tmpfs that goes with the last process here. As with the
// files of /etc/netns, where nothing can be mounted the program sees the file of before.
void bind_hosts(const std::string& text) {
  if (::mount("hosts", "/sys", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755") != 0) return;
  const char* file = "/sys/hosts";
  std::ofstream(file) << text;
  static_cast<void>(::chmod(file, 0444));
  static_cast<void>(::mount(file, "/etc/hosts", "none", MS_BIND, nullptr));
  static_cast<void>(::umount2("/sys", MNT_DETACH));
}

}  // namespace

void become_inhabitant(const Namespace& space, const std::string& name, const std::string& hosts) {
  enter(space);
  if (::unshare(CLONE_NEWNS) != 0 || ::mount("", "/", "none", MS_SLAVE | MS_REC, nullptr) != 0)
    throw Error(errno, "make a mount namespace for a process in network namespace " + space.describe(),
                errno == EPERM ? "needs CAP_SYS_ADMIN" : "");
  if (!hosts.empty()) bind_hosts(hosts);
  show_own_sys(space.describe());
  if (!name.empty()) bind_etc(name);
}

}  // namespace netkit_bpf::netns
