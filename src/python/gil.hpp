// SPDX-License-Identifier: MIT
// The bindings let go of the GIL, take it back and call what may run Python code through this file alone.
//
// At the interpreter's exit CPython before 3.14 ends each other thread that asks for the GIL by pthread_exit(): see
// take_gil(), Python/ceval_gil.h. That unwinds the thread's stack by force, and so runs the destructors of what the
// bindings hold there: they would drop Python objects without the GIL, and one that is noexcept would abort. Here such
// a thread sleeps until the process has ended instead, as CPython 3.14 has it (PyThread_hang_thread()).
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <atomic>
#include <utility>

namespace netkit_bpf::python {

// Keeps a thread that is unwound by force from being unwound any further: it stays in the destructor. A handler,
// catch (...), would not do: libc++abi passes those by. And a function that has one is not to be inlined: in one that
// is noexcept gcc leaves out what would run before std::terminate().
class Anchor {
 public:
  Anchor() = default;
  ~Anchor() {
    while (!weighed_) ::pause();
  }
  Anchor(const Anchor&) = delete;
  Anchor& operator=(const Anchor&) = delete;

  void weigh() noexcept { weighed_ = true; }

 private:
  bool weighed_ = false;
};

// Calls a function of Python's C API that may run Python code or ask for the GIL. The function throws no C++ exception.
template <typename Call>
[[gnu::noinline]] auto call_python(Call&& call) {
  Anchor anchor;
  auto result = std::forward<Call>(call)();
  anchor.weigh();
  return result;
}

// PyEval_RestoreThread().
void take_gil(PyThreadState* thread);

// Other threads run Python code during its life. What is done meanwhile touches nothing of Python. Also a guard for
// pybind11's call_guard.
class WithoutGil {
 public:
  WithoutGil() : thread_(PyEval_SaveThread()) {}
  ~WithoutGil() { take_gil(thread_); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* const thread_;
};

// What a module has under a name, or what that has under a second one, imported when it is first needed. For the life
// of the process; any thread may use it. No lock is held while Python imports.
class Imported {
 public:
  constexpr explicit Imported(const char* module, const char* name, const char* member = nullptr)
      : module_(module), name_(name), member_(member) {}

  // Borrowed. Null with an exception set.
  PyObject* get() {
    PyObject* found = object_.load(std::memory_order_acquire);
    return found != nullptr ? found : import();
  }

 private:
  PyObject* import() {
    PyObject* made = call_python([&] { return PyImport_ImportModule(module_); });
    for (const char* name : {name_, member_}) {
      if (made == nullptr || name == nullptr) break;
      PyObject* const owner = made;
      made = call_python([&] { return PyObject_GetAttrString(owner, name); });
      Py_DECREF(owner);
    }
    PyObject* found = nullptr;
    if (made == nullptr || object_.compare_exchange_strong(found, made, std::memory_order_acq_rel)) return made;
    Py_DECREF(made);  // another thread was faster
    return found;
  }

  const char* const module_;
  const char* const name_;
  const char* const member_;
  std::atomic<PyObject*> object_ = nullptr;
};

}  // namespace netkit_bpf::python
