// SPDX-License-Identifier: MIT
#include "base/netns.hpp"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <exception>
#include <thread>

#include "base/error.hpp"

namespace netkit_bpf::netns {

namespace {

constexpr const char* own = "/proc/thread-self/ns/net";
constexpr const char* directory = "/run/netns";

void on_new_thread(const std::function<void()>& f) {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      f();
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
}

void unshare_or_throw() {
  if (::unshare(CLONE_NEWNET) != 0)
    throw Error(errno, "create network namespace", errno == EPERM ? "needs CAP_SYS_ADMIN" : "");
}

// Names bound into the directory must be seen in every mount namespace, so it is a shared mount, as
// ip-netns(8) makes it: the first bind makes it a mount, and only a mount can be made shared.
void prepare_directory() {
  if (::mkdir(directory, 0755) != 0 && errno != EEXIST) throw Error(errno, "make directory /run/netns");
  if (::mount("", directory, "none", MS_SHARED | MS_REC, nullptr) == 0) return;
  if (errno != EINVAL || ::mount(directory, directory, "none", MS_BIND | MS_REC, nullptr) != 0 ||
      ::mount("", directory, "none", MS_SHARED | MS_REC, nullptr) != 0)
    throw Error(errno, "share /run/netns between mount namespaces", errno == EPERM ? "needs CAP_SYS_ADMIN" : "");
}

}  // namespace

Identity identity(const std::string& path) {
  struct stat found{};
  if (::stat(path.empty() ? own : path.c_str(), &found) != 0) throw Error(errno, "open network namespace " + path);
  return {found.st_dev, found.st_ino};
}

Fd open_path(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw Error(errno, "open network namespace " + path);
  return fd;
}

bool is_one(const std::string& path) { return ::ioctl(open_path(path).get(), NS_GET_NSTYPE) == CLONE_NEWNET; }

Fd current() { return open_path(own); }

std::string describe_current() {
  std::array<char, 64> target{};
  const ssize_t size = ::readlink(own, target.data(), target.size());
  return size < 0 ? "of this thread" : std::string(target.data(), static_cast<size_t>(size));
}

Fd create(const std::function<void()>& inside) {
  Fd fd;
  on_new_thread([&] {
    unshare_or_throw();
    fd = open_path(own);
    if (inside) inside();
  });
  return fd;
}

void create_named(const std::string& name) {
  const std::string path = std::string(directory) + "/" + name;
  prepare_directory();
  const Fd file(::open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0));
  if (!file) throw Error(errno, "create network namespace " + name);
  try {
    on_new_thread([&] {
      unshare_or_throw();
      if (::mount(own, path.c_str(), "none", MS_BIND, nullptr) != 0)
        throw Error(errno, "bind network namespace to " + path);
    });
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

void delete_named(const std::string& name) {
  const std::string path = std::string(directory) + "/" + name;
  // EINVAL: a name without a mount, left by a process that was killed between the two steps.
  if (::umount2(path.c_str(), MNT_DETACH) != 0 && errno != EINVAL)
    throw Error(errno, "delete network namespace " + name, errno == EPERM ? "needs CAP_SYS_ADMIN" : "");
  if (::unlink(path.c_str()) != 0) throw Error(errno, "delete network namespace " + name);
}

void enter(const std::string& path) {
  const Fd fd = open_path(path);
  if (::setns(fd.get(), CLONE_NEWNET) != 0)
    throw Error(errno, "enter network namespace " + path, errno == EPERM ? "needs CAP_SYS_ADMIN" : "");
}

void run_inside(const std::string& path, const std::function<void()>& f) {
  if (path.empty() || identity(path) == identity("")) {
    f();
    return;
  }
  on_new_thread([&] {
    enter(path);
    f();
  });
}

}  // namespace netkit_bpf::netns
