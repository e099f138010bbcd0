// SPDX-License-Identifier: MIT
#include "base/claim.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <string_view>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace netkit_bpf::claim {

namespace {

constexpr const char* directory = "/run/netkit-bpf";
constexpr const char* path = "/run/netkit-bpf/claims";
constexpr size_t digits = 16;
constexpr const char* operation = "claim what this process makes";

uint64_t random_number() {
  uint64_t number = 0;
  if (::getrandom(&number, sizeof(number), 0) != sizeof(number)) throw Error(errno, operation);
  return number;
}

std::string to_digits(uint64_t number) {
  std::array<char, digits + 1> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(number));
  return text.data();
}

// The file's name, stored in the file: inode numbers are reused.
std::string name_of(const Fd& file) {
  std::string name(digits, '\0');
  return ::pread(file.get(), name.data(), digits, 0) == static_cast<ssize_t>(digits) ? name : "";
}

// Atomic, even if two processes make it at the same time.
void make_file() {
  if (::mkdir(directory, 0755) != 0 && errno != EEXIST) throw Error(errno, std::string("make directory ") + directory);
  const std::string temporary = std::string(path) + "." + to_digits(random_number());
  const Fd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) throw Error(errno, operation, temporary);
  const std::string name = to_digits(random_number());
  const bool written = ::write(file.get(), name.data(), name.size()) == static_cast<ssize_t>(name.size());
  const int error = written && (::link(temporary.c_str(), path) == 0 || errno == EEXIST) ? 0 : errno;
  ::unlink(temporary.c_str());
  if (error != 0) throw Error(error, operation, path);
}

Fd open_file() { return Fd(::open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)); }

struct flock of_byte(uint64_t number, short type) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(number);
  lock.l_len = 1;
  return lock;
}

}  // namespace

std::string make() {
  Fd file = open_file();
  if (!file && errno == ENOENT) {
    make_file();
    file = open_file();
  }
  if (!file) throw Error(errno, operation, path);
  const std::string name = name_of(file);
  if (name.empty()) throw Error(EINVAL, operation, std::string(path) + " holds no name");
  const uint64_t number = random_number() >> 2;  // what an offset can hold
  struct flock lock = of_byte(number, F_RDLCK);
  if (::fcntl(file.get(), F_OFD_SETLK, &lock) != 0) throw Error(errno, operation, path);
  // It stays until the process ends.
  if (::mmap(nullptr, 1, PROT_NONE, MAP_PRIVATE, file.get(), 0) == MAP_FAILED) throw Error(errno, operation, path);
  return name + "-" + to_digits(number);
}

State look_up(const std::string& name) {
  uint64_t number = 0;
  const char* const end = name.data() + name.size();
  if (name.size() != 2 * digits + 1 || name[digits] != '-' ||
      std::from_chars(name.data() + digits + 1, end, number, 16).ptr != end || number > UINT64_MAX >> 2)
    return State::unknown;
  const Fd file = open_file();
  if (!file || name_of(file) != std::string_view(name).substr(0, digits)) return State::unknown;
  struct flock lock = of_byte(number, F_WRLCK);
  if (::fcntl(file.get(), F_OFD_GETLK, &lock) != 0) return State::unknown;
  return lock.l_type == F_UNLCK ? State::free : State::held;
}

}  // namespace netkit_bpf::claim
