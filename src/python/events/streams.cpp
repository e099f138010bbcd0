// SPDX-License-Identifier: MIT
// What Python sees of streams.
#include <pybind11/stl.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bpf/program.hpp"
#include "observer/observers.hpp"
#include "python/bindings.hpp"
#include "python/events/event_iterator.hpp"
#include "python/events/stream.hpp"
#include "python/gil.hpp"
#include "ring/reader_thread.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// The thread that streams share; it exists as long as one uses it. A forked child does not use its parent's.
std::shared_ptr<ReaderThread> shared_reader() {
  static Mutex mutex;
  static std::weak_ptr<ReaderThread> shared;
  {
    const std::lock_guard lock(mutex);
    std::shared_ptr<ReaderThread> reader = shared.lock();
    if (reader && reader->is_here()) return reader;
  }
  auto reader = std::make_shared<ReaderThread>();
  const std::lock_guard lock(mutex);
  shared = reader;  // if two threads come here at once, each gets a separate one, which does no harm
  return reader;
}

using Given = std::vector<std::shared_ptr<Observer>>;

// "shared", "own" or none.
std::shared_ptr<ReaderThread> thread_of(const std::optional<std::string>& thread) {
  if (!thread) return nullptr;
  return *thread == "shared" ? shared_reader() : std::make_shared<ReaderThread>();
}

std::unique_ptr<PyStream> make_stream(py::object owner, std::vector<int> maps, const py::object& decoder,
                                      size_t queue_size, const std::string& rings,
                                      const std::optional<std::string>& thread, int counts, size_t sources,
                                      size_t source_offset, std::optional<size_t> pair_offset, const Given& given,
                                      bool endless, const std::optional<std::string>& loss_advice) {
  StreamOptions options;
  options.rings = std::move(maps);
  options.ordered = rings == "ordered";
  options.queue_size = queue_size;
  options.reader = thread_of(thread);
  options.counts_map = counts;
  options.field = {.sources = sources, .offset = source_offset, .group_offset = pair_offset.value_or(0)};
  std::shared_ptr<Observers> observers;
  if (!given.empty() || pair_offset) {
    const WithoutGil release;  // looks at the hooks
    observers = std::make_shared<Observers>(endless);
    for (size_t number = 0; number < given.size(); ++number) observers->add(number, given[number]);
    options.check = [observers] { return observers->check(); };
    options.check_fd = observers->fd();
  }
  return std::make_unique<PyStream>(std::move(owner), options, decoder, loss_advice.value_or(""), std::move(observers));
}

py::object read(PyStream& stream, std::optional<double> timeout) {
  PyObject* event = stream.next(deadline_after(timeout), 1);
  if (event == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return event == nullptr ? py::none() : py::reinterpret_steal<py::object>(event);
}

py::tuple by_source(const std::vector<SourceStats>& stats) {
  py::list sources;
  for (const SourceStats& source : stats)
    sources.append(py::make_tuple(source.seen, source.delivered, source.lost, source.pending));
  return py::tuple(sources);
}

py::object release_pair(PyStream& stream, size_t number) {
  const auto final = stream.release_pair(number);
  return final ? py::object(by_source(*final)) : py::none();
}

// The number of a pair, a side, a program that hides its packets (id, link, name), and how many.
using Hidden = std::tuple<size_t, int, std::tuple<uint32_t, uint32_t, std::optional<std::string>>, uint64_t>;

std::vector<Hidden> hiding(const PyStream& stream) {
  std::vector<Hidden> found;
  const WithoutGil release;
  for (const auto& [number, side, program, unseen] : stream.hiding())
    found.emplace_back(number, static_cast<int>(side),
                       std::tuple(program.program_id, program.link_id, program::name_of(program.program_id)), unseen);
  return found;
}

}  // namespace

void bind_stream(py::module_& module) {
  make_event_iterator_type();

  py::class_<PyStream::Descriptor>(module, "StreamDescriptor")
      .def("fileno", &PyStream::Descriptor::fileno)
      .def("close", &PyStream::Descriptor::close);

  py::class_<PyStream>(module, "Stream")
      .def(py::init(&make_stream), py::arg("owner"), py::arg("maps"), py::arg("decoder"), py::kw_only(),
           py::arg("queue_size"), py::arg("rings") = "shared", py::arg("thread") = "shared", py::arg("counts") = -1,
           py::arg("sources") = 1, py::arg("source_offset") = 0, py::arg("pair_offset") = std::nullopt,
           py::arg("observers") = Given(), py::arg("endless") = false, py::arg("loss_advice") = std::nullopt)
      .def("read", &read, py::arg("timeout"))
      .def("events", &make_event_iterator, py::arg("timeout"), py::arg("duration") = std::nullopt,
           py::arg("count") = std::nullopt, py::arg("make_async") = py::none())
      .def("fileno", &PyStream::fileno)
      .def("set_names", &PyStream::set_names, py::arg("names"))
      .def_property_readonly("names", &PyStream::names)
      .def("release_pair", &release_pair, py::arg("number"))
      .def("add_counts", &PyStream::add_counts, py::arg("map"), py::arg("pairs"))
      .def("add_observer", &PyStream::add_observer, py::arg("number"), py::arg("observer"))
      .def("remove_observer", &PyStream::remove_observer, py::arg("number"))
      .def("take_ends",
           [](PyStream& stream) {
             py::list ends;
             for (const auto& [number, time_ns] : stream.take_ends()) ends.append(py::make_tuple(number, time_ns));
             return ends;
           })
      .def("ends_fd", &PyStream::ends_fd)
      .def("hiding", &hiding)
      .def("stats", [](PyStream& stream) { return by_source(stream.stats().sources); })
      .def("limits",
           [](PyStream& stream) {
             const StreamStats stats = stream.stats();
             return py::make_tuple(stats.ring_fill, stats.queue_fill, stats.naps, stats.wakeups);
           })
      .def("account",
           [](PyStream& stream) {
             const StreamStats stats = stream.stats();
             return py::make_tuple(by_source(stats.sources), by_source(stats.groups),
                                   py::make_tuple(stats.ring_fill, stats.queue_fill, stats.naps, stats.wakeups));
           })
      .def("descriptor", &PyStream::descriptor)
      .def_property_readonly("threaded", &PyStream::threaded)
      .def("close", &PyStream::close);
}

}  // namespace netkit_bpf::python
