// Prints the packets on both hooks of a device, in C++ without Python. Needs root.
//
//   cmake -B build/core && cmake --build build/core
//   build/core/monitor build/core/monitor.bpf.o nk0 10
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "bpf/map.hpp"
#include "bpf/object.hpp"
#include "devices/device.hpp"
#include "events/summary_line.hpp"
#include "netlink/socket.hpp"
#include "observer/observer.hpp"
#include "observer/observers.hpp"
#include "ring/stream.hpp"

namespace nk = netkit_bpf;

namespace {

std::vector<uint8_t> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Packets that are not plain go on to a program of their own: see `rest` in bpf/monitor.bpf.c.
void put_rest(const nk::Object& object) {
  const nk::Program rest = object.open_program("monitor_rest");
  const std::array<uint8_t, sizeof(uint32_t)> index{};
  std::array<uint8_t, sizeof(uint32_t)> fd{};
  const auto number = static_cast<uint32_t>(rest.fd());
  std::memcpy(fd.data(), &number, sizeof(number));
  nk::write_all(object.open_map("rest"), index, fd);
}

void watch(const std::string& object_path, const std::string& name, unsigned long count) {
  constexpr size_t ring_size = 1 << 20;
  const auto image = read_file(object_path);
  const auto object = std::make_shared<nk::Object>(image, "monitor");
  object->set_max_entries("events", ring_size);
  object->load();
  put_rest(*object);

  nk::NetlinkSocket netlink;
  const int ifindex = nk::device::get(netlink, name).ifindex;
  const nk::Program primary = object->open_program("monitor_primary");
  const nk::Program peer = object->open_program("monitor_peer");
  const nk::Variable& verdict = object->variable("verdict");
  const auto observer = std::make_shared<nk::Observer>(
      "monitor", nk::Observer::Place{name, ifindex, nk::netns::Namespace::current()},
      std::array<const nk::Program*, 2>{&primary, &peer}, nk::SideCells(object->map(verdict.section), verdict.offset));
  nk::StreamOptions options;
  options.rings = {object->map("events")};
  const auto observers = std::make_shared<nk::Observers>(false);
  observers->add(0, observer);
  options.check = [observers] { return observers->check(); };
  options.check_fd = observers->fd();
  nk::Stream stream(options);
  std::puts("attached");
  std::fflush(stdout);
  while (count > 0) {
    if (const auto record = stream.next()) {
      nk::SummaryLine line;
      nk::write_summary(*reinterpret_cast<const nk_event*>(record->data.data()), line);
      line << '\n';
      std::fwrite(line.view().data(), 1, line.view().size(), stdout);
      --count;
    } else {
      stream.wait(std::chrono::seconds(1));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s OBJECT DEVICE COUNT\n", argv[0]);
    return 2;
  }
  try {
    watch(argv[1], argv[2], std::strtoul(argv[3], nullptr, 10));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
