// SPDX-License-Identifier: MIT
// Iterators as Python types of their own: a call into a class that pybind11 wraps takes longer than to make an event.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <new>
#include <utility>

namespace netkit_bpf::python {

// `State` has `name`, the type's name in Python, and `next()`, which returns a new reference, or null at the end and
// with an exception set. Where it has `aiter()` too, `async for` takes what that returns. Any thread may call them.
template <typename State>
class Iterator {
 public:
  // Makes the type; once, with the module.
  static void make_type() {
    std::array<PyType_Slot, 5> slots = make_slots();
    PyType_Spec spec{State::name, sizeof(Object), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                     slots.data()};
    type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
    if (type == nullptr) throw pybind11::error_already_set();
  }

  template <typename... Args>
  static pybind11::object make(Args&&... args) {
    auto* object = PyObject_New(Object, type);
    if (object == nullptr) throw pybind11::error_already_set();
    new (&object->state) State{std::forward<Args>(args)...};
    return pybind11::reinterpret_steal<pybind11::object>(reinterpret_cast<PyObject*>(object));
  }

 private:
  struct Object {
    PyObject ob_base;
    State state;
  };

  static State& state_of(PyObject* self) { return reinterpret_cast<Object*>(self)->state; }
  static PyObject* next(PyObject* self) { return state_of(self).next(); }
  static void dealloc(PyObject* self) {
    PyTypeObject* own = Py_TYPE(self);
    state_of(self).~State();
    own->tp_free(self);
    Py_DECREF(own);
  }
  static std::array<PyType_Slot, 5> make_slots() {
    std::array<PyType_Slot, 5> made{{
        {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
        {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)},
        {Py_tp_iternext, reinterpret_cast<void*>(next)},
        {},
        {},
    }};
    if constexpr (requires(State& state) { state.aiter(); })
      made[3] = {Py_am_aiter,
                 reinterpret_cast<void*>(+[](PyObject* self) -> PyObject* { return state_of(self).aiter(); })};
    return made;
  }

  inline static PyTypeObject* type = nullptr;  // never changed once it is made
};

}  // namespace netkit_bpf::python
