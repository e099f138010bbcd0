// SPDX-License-Identifier: MIT
// Network namespaces: making them, and running something inside one.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace netkit_bpf::netns {

// The numbers of a namespace's file (namespaces(7)): no other has the same as long as somebody holds this one.
using Identity = std::pair<dev_t, ino_t>;

// A network namespace, as a descriptor that is owned: never a number or a name that is opened again, for both may
// be given to another namespace meanwhile. So the namespace lives, with the devices in it, while one copy of this
// value does, also where somebody takes its name away; close() ends that for all copies. Any thread may use it.
class Namespace {
 public:
  // What the path leads to now, by way of links too. `name` is what errors call it. Throws ENOENT and the like, and
  // std::invalid_argument for what is something else; that is not opened (a FIFO would wait, a device may act).
  static Namespace open(const std::string& path, const std::string& name);

  // The calling thread's.
  static Namespace current();

  // A new one. `inside` is called in it, on the thread that makes it.
  static Namespace create(const std::function<void()>& inside = {});

  // A new one that has a name under /run/netns too, as ip-netns(8) makes it. Throws EEXIST where the name is taken.
  static Namespace create_named(const std::string& name, const std::function<void()>& inside = {});

  // Takes the name under /run/netns away if it is this namespace's. Throws ENOENT where it is not, or not any more.
  void remove_name(const std::string& name) const;

  // Lets go of the descriptor: at once, or once the calls are done that are using it. Whatever copy is used from
  // then on throws std::invalid_argument. Idempotent.
  void close() const noexcept;
  [[nodiscard]] bool is_closed() const noexcept;

  [[nodiscard]] Identity identity() const noexcept;

  // How errors call it: the name that it was opened by, else its inode, as lsns(8) does: "net:[4026531840]".
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

// How an error names the calling thread's namespace: by its inode. "net:[4026531840]"
std::string describe_current();

// Moves the calling thread. For threads that end inside the namespace: nobody is brought back.
void enter(const Namespace& space);

// Runs f inside the namespace: in place if the caller is there already, else on a thread of its own that
// ends there, so that the caller's thread never leaves its namespace. What f throws comes through.
void run_inside(const Namespace& space, const std::function<void()>& f);

}  // namespace netkit_bpf::netns
