// SPDX-License-Identifier: MIT
// The bindings release and take the GIL, and call what may run Python code, only through this file.
//
// At the interpreter's exit CPython before 3.14 calls pthread_exit() in every other thread that asks for the GIL: see
// take_gil(), Python/ceval_gil.h. That unwinds the thread's stack by force, and so runs the destructors of the bindings
// there: they would drop Python objects without the GIL, and a noexcept function would abort. Here such a thread sleeps
// until the process has ended instead, as in CPython 3.14 (PyThread_hang_thread()).
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <atomic>
#include <utility>

namespace netkit_bpf::python {

// Stops the forced unwinding of a thread: the thread stays in the destructor. A handler, catch (...), does not work:
// libc++abi skips those. A function with an Anchor must not be inlined: in a noexcept function gcc omits destructors
// that would run before std::terminate().
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

// Releases the GIL: other threads can run Python code during its life, and code in its scope must not touch Python.
// Also a guard for pybind11's call_guard.
class WithoutGil {
 public:
  WithoutGil() : thread_(PyEval_SaveThread()) {}
  ~WithoutGil() { take_gil(thread_); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* const thread_;
};

// For py::init(): a factory that runs without the GIL. A guard would be wrong there: pybind11 enters what a factory
// returns into its table of instances while the guard holds, and two threads at once would damage it.
template <typename Made, typename... Args>
auto without_gil(Made (*make)(Args...)) {
  return [make](Args... args) -> Made {
    const WithoutGil release;
    return make(std::forward<Args>(args)...);
  };
}

// An attribute of a module, or an attribute of that, imported on first use and kept for the life of the process. Any
// thread may use it. No lock is held while Python imports.
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
