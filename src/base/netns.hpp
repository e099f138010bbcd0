// SPDX-License-Identifier: MIT
// Network namespaces: making them, and running something inside one.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace netkit_bpf::netns {

// Device and inode of a namespace's file (namespaces(7)): unique as long as the namespace is held.
using Identity = std::pair<dev_t, ino_t>;

// A network namespace as an owned descriptor. It is never opened again by a number or a name, because both may be given
// to another namespace meanwhile. The namespace and the devices in it live as long as any copy of this value, even if
// its name is removed; close() ends that for all copies. Any thread may use it.
class Namespace {
 public:
  // Opens what the path leads to now, following links. `name` is its name in errors. Throws ENOENT and the like, and
  // std::invalid_argument if it is not a namespace; anything else is not opened (a FIFO would wait, a device may act).
  static Namespace open(const std::string& path, const std::string& name);

  // The calling thread's.
  static Namespace current();

  // A new namespace. `inside` is called in it, on the thread that makes it.
  static Namespace create(const std::function<void()>& inside = {});

  // A new namespace with a name under /run/netns, as ip-netns(8) makes it. Throws EEXIST if the name is taken.
  static Namespace create_named(const std::string& name, const std::function<void()>& inside = {});

  // Removes the name under /run/netns. Throws ENOENT if it does not, or no longer, belong to this namespace.
  void remove_name(const std::string& name) const;

  // Closes the descriptor, at once or as soon as the calls that use it are done. From then on every use of any copy
  // throws std::invalid_argument. Idempotent.
  void close() const noexcept;
  [[nodiscard]] bool is_closed() const noexcept;

  [[nodiscard]] Identity identity() const noexcept;

  // Its name in errors: the name that it was opened by, else its inode, as in lsns(8): "net:[4026531840]".
  [[nodiscard]] std::string describe() const;

  // Keeps the descriptor open while a call needs it.
  class Use;
  [[nodiscard]] Use use() const;

 private:
  struct State;
  explicit Namespace(std::shared_ptr<State> state) : state_(std::move(state)) {}
  static Namespace own(const std::string& name);

  std::shared_ptr<State> state_;
};

class Namespace::Use {
 public:
  explicit Use(std::shared_ptr<State> state);  // throws std::invalid_argument once it is closed
  Use(Use&&) noexcept = default;
  Use& operator=(Use&&) = delete;
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use();

  [[nodiscard]] int fd() const noexcept;

 private:
  std::shared_ptr<State> state_;
};

// The calling thread's namespace in errors, by its inode: "net:[4026531840]".
std::string describe_current();

// Moves the calling thread into the namespace. Only for threads that end there: there is no way back.
void enter(const Namespace& space);

// Runs f inside the namespace: in place if the caller is there already, else on a new thread that ends there, so that
// the caller's thread never leaves its namespace. Exceptions of f are passed on.
void run_inside(const Namespace& space, const std::function<void()>& f);

}  // namespace netkit_bpf::netns
