// SPDX-License-Identifier: MIT
#include "bpf/btf_types.hpp"

#include "python/bindings.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

py::tuple to_tuple(const BtfType& type) {
  py::list members;
  for (const BtfMember& member : type.members)
    members.append(py::make_tuple(to_text(member.name), member.type, member.bit_offset, member.bits, member.value));
  return py::make_tuple(type.kind, to_text(type.name), type.size, type.type, type.encoding, type.bits, type.bit_offset,
                        py::tuple(members));
}

}  // namespace

void bind_btf(py::module_& module) {
  py::class_<BtfTypes>(module, "BtfTypes")
      .def_static("from_kernel", &BtfTypes::from_kernel, py::arg("id"))
      .def(
          "get", [](const BtfTypes& types, uint32_t id) { return to_tuple(types.get(id)); }, py::arg("id"))
      .def("find", &BtfTypes::find, py::arg("name"), py::arg("kind"));
}

}  // namespace netkit_bpf::python
