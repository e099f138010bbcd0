// SPDX-License-Identifier: MIT
#include "base/netns.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <exception>
#include <stdexcept>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/thread.hpp"

namespace netkit_bpf::netns {

namespace {

constexpr const char* own_path = "/proc/thread-self/ns/net";
constexpr const char* directory = "/run/netns";

void on_new_thread(const std::function<void()>& f) {
  std::exception_ptr failure;
  start_thread("start a thread for a network namespace", "netkit-netns", [&] {
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

// Names bound into the directory must be visible in every mount namespace, so it is a shared mount, as ip-netns(8)
// makes it. The first bind turns it into a mount, because only a mount can be made shared.
void prepare_directory() {
  if (::mkdir(directory, 0755) != 0 && errno != EEXIST) throw Error(errno, "make directory /run/netns");
  if (::mount("", directory, "none", MS_SHARED | MS_REC, nullptr) == 0) return;
  if (errno != EINVAL || ::mount(directory, directory, "none", MS_BIND | MS_REC, nullptr) != 0 ||
      ::mount("", directory, "none", MS_SHARED | MS_REC, nullptr) != 0)
    throw Error(errno, "share /run/netns between mount namespaces", errno == EPERM ? "needs CAP_SYS_ADMIN" : "");
}

std::string name_path(const std::string& name) { return std::string(directory) + "/" + name; }

// The table of the thread: under /proc the process has none once its first thread has ended.
std::string fd_path(const Fd& fd) { return "/proc/thread-self/fd/" + std::to_string(fd.get()); }

Identity identity_of(const struct stat& file) { return {file.st_dev, file.st_ino}; }

Identity own_identity() {
  struct stat file{};
  if (::stat(own_path, &file) != 0) throw Error(errno, "look up this thread's network namespace");
  return identity_of(file);
}

std::string why_not_opened(int error, const std::string& path, const std::string& name) {
  struct stat file{};
  if (error == EACCES || error == EPERM) return "needs the user of the process, or CAP_SYS_PTRACE";
  if (error != ENOENT) return "";
  if (::lstat(path.c_str(), &file) == 0) return path + " is a dangling link";
  return path == name ? "" : "there is no " + path;
}

std::string kind_of(const struct stat& file, const std::string& path, const std::string& name) {
  switch (file.st_mode & S_IFMT) {
    case S_IFREG:
      // ip-netns(8) first makes the file and then binds the namespace to it.
      if (file.st_size == 0 && path == name_path(name))
        return "an empty file, to which no namespace is bound: `ip netns delete " + name + "` removes it";
      return "a regular file";
    case S_IFDIR:
      return "a directory";
    case S_IFIFO:
      return "a FIFO";
    case S_IFSOCK:
      return "a socket";
    default:
      return "a device";
  }
}

}  // namespace

// Without a lock, because a forked child could find it held for ever.
struct Namespace::State {
  State(Fd opened, std::string known_as) : fd(std::move(opened)), name(std::move(known_as)) {
    struct stat file{};
    if (::fstat(fd.get(), &file) != 0) throw Error(errno, "look up network namespace " + name);
    identity = identity_of(file);
  }

  bool acquire() noexcept {
    uint32_t now = users.load();
    do {
      if ((now & closed) != 0) return false;
    } while (!users.compare_exchange_weak(now, now + 1));
    return true;
  }

  void release() noexcept {
    if (users.fetch_sub(1) == (closed | 1)) fd.reset();
  }

  void close() noexcept {
    if (users.fetch_or(closed) == 0) fd.reset();
  }

  static constexpr uint32_t closed = 1U << 31;

  Fd fd;
  std::string name;
  Identity identity;
  std::atomic<uint32_t> users{0};  // and a bit for closed
};

Namespace::Use::Use(std::shared_ptr<State> state) : state_(std::move(state)) {
  if (!state_->acquire()) {
    state_.reset();
    throw std::invalid_argument("this network namespace is deleted");
  }
}

Namespace::Use::~Use() {
  if (state_) state_->release();
}

int Namespace::Use::fd() const noexcept { return state_->fd.get(); }

Namespace::Use Namespace::use() const { return Use(state_); }

void Namespace::close() const noexcept { state_->close(); }

bool Namespace::is_closed() const noexcept { return (state_->users.load() & State::closed) != 0; }

Identity Namespace::identity() const noexcept { return state_->identity; }

std::string Namespace::describe() const {
  return state_->name.empty() ? "net:[" + std::to_string(state_->identity.second) + "]" : state_->name;
}

Namespace Namespace::open(const std::string& path, const std::string& name) {
  const std::string operation = "open network namespace " + name;
  const Fd file(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!file) throw Error(errno, operation, why_not_opened(errno, path, name));
  struct stat found{};
  struct statfs filesystem{};
  if (::fstat(file.get(), &found) != 0 || ::fstatfs(file.get(), &filesystem) != 0) throw Error(errno, operation);
  if (filesystem.f_type != NSFS_MAGIC)
    throw std::invalid_argument(name + " is not a network namespace: it is " + kind_of(found, path, name));
  Fd fd(::open(fd_path(file).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw Error(errno, operation);
  const int type = ::ioctl(fd.get(), NS_GET_NSTYPE);
  if (type < 0) throw Error(errno, operation, "the kernel cannot tell what kind of namespace it is");
  if (type != CLONE_NEWNET)
    throw std::invalid_argument(name + " is not a network namespace: it is a namespace of another kind");
  return Namespace(std::make_shared<State>(std::move(fd), name));
}

Namespace Namespace::own(const std::string& name) {
  Fd fd(::open(own_path, O_RDONLY | O_CLOEXEC));
  if (!fd) throw Error(errno, "open this thread's network namespace");
  return Namespace(std::make_shared<State>(std::move(fd), name));
}

Namespace Namespace::current() { return own(""); }

Namespace Namespace::create(const std::function<void()>& inside) {
  std::shared_ptr<State> made;
  on_new_thread([&] {
    unshare_or_throw();
    made = own("").state_;
    if (inside) inside();
  });
  return Namespace(std::move(made));
}

Namespace Namespace::create_named(const std::string& name, const std::function<void()>& inside) {
  const std::string path = name_path(name);
  prepare_directory();
  const Fd file(::open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0));
  if (!file) throw Error(errno, "create network namespace " + name);
  std::shared_ptr<State> made;
  try {
    on_new_thread([&] {
      unshare_or_throw();
      made = own(name).state_;
      if (inside) inside();
      if (::mount(own_path, path.c_str(), "none", MS_BIND, nullptr) != 0)
        throw Error(errno, "bind network namespace to " + path);
    });
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
  return Namespace(std::move(made));
}

void Namespace::remove_name(const std::string& name) const {
  const std::string path = name_path(name);
  const std::string operation = "delete network namespace " + name;
  // The name may be given to another namespace at any time, so the mount that is checked is the one that is unmounted.
  const Fd file(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat bound{};
  if (!file || ::fstat(file.get(), &bound) != 0) throw Error(errno, operation);
  const bool is_link = S_ISLNK(bound.st_mode);
  if (is_link && ::stat(path.c_str(), &bound) != 0) throw Error(errno, operation);
  if (identity_of(bound) != identity()) throw Error(ENOENT, operation, "another namespace has this name now");
  if (!is_link && ::umount2(fd_path(file).c_str(), MNT_DETACH) != 0)
    throw Error(errno, operation, errno == EPERM ? "needs CAP_SYS_ADMIN" : "");
  // EBUSY: the next namespace is bound to it already.
  if (::unlink(path.c_str()) != 0 && errno != EBUSY) throw Error(errno, operation);
}

std::string describe_current() {
  std::array<char, 64> target{};
  const ssize_t size = ::readlink(own_path, target.data(), target.size());
  return size < 0 ? "of this thread" : std::string(target.data(), static_cast<size_t>(size));
}

void enter(const Namespace& space) {
  const Namespace::Use use = space.use();
  if (::setns(use.fd(), CLONE_NEWNET) != 0)
    throw Error(errno, "enter network namespace " + space.describe(), errno == EPERM ? "needs CAP_SYS_ADMIN" : "");
}

void run_inside(const Namespace& space, const std::function<void()>& f) {
  const Namespace::Use use = space.use();
  if (space.identity() == own_identity()) {
    f();
    return;
  }
  on_new_thread([&] {
    enter(space);
    f();
  });
}

}  // namespace netkit_bpf::netns
