// SPDX-License-Identifier: MIT
#include "events/arrow.hpp"

#include <span>

namespace netkit_bpf::arrow {

namespace {

// The data that an exported structure refers to.
struct ArrayOwner {
  std::vector<Memory> memory;
  std::vector<const void*> buffers;
  std::vector<Array> children;
  std::vector<ArrowArray*> child_pointers;
  Array dictionary;
};

struct SchemaOwner {
  std::vector<Schema> children;
  std::vector<ArrowSchema*> child_pointers;
  Schema dictionary;
  std::string metadata;
};

template <typename Owner, typename Structure>
void release(Structure* structure) {
  delete static_cast<Owner*>(structure->private_data);
  structure->release = nullptr;
}

}  // namespace

Array make_array(int64_t length, int64_t null_count, std::vector<Memory> buffers, Array dictionary,
                 std::vector<Array> children) {
  Array array(new ArrowArray{});
  auto owner = std::make_unique<ArrayOwner>();
  for (const Memory& buffer : buffers) owner->buffers.push_back(buffer.get());
  for (const Array& child : children) owner->child_pointers.push_back(child.get());
  owner->memory = std::move(buffers);
  owner->children = std::move(children);
  owner->dictionary = std::move(dictionary);
  *array = {
      .length = length,
      .null_count = null_count,
      .offset = 0,
      .n_buffers = static_cast<int64_t>(owner->buffers.size()),
      .n_children = static_cast<int64_t>(owner->children.size()),
      .buffers = owner->buffers.data(),
      .children = owner->child_pointers.data(),
      .dictionary = owner->dictionary.get(),
      .release = release<ArrayOwner, ArrowArray>,
      .private_data = owner.release(),
  };
  return array;
}

Array make_texts(const std::vector<std::string>& texts) {
  return make_binary(texts.size(), [&](size_t i) { return std::as_bytes(std::span(texts[i])); });
}

Schema make_schema(const char* format, const char* name, int64_t flags, Schema dictionary, std::vector<Schema> children,
                   std::string metadata) {
  Schema schema(new ArrowSchema{});
  auto owner = std::make_unique<SchemaOwner>();
  for (const Schema& child : children) owner->child_pointers.push_back(child.get());
  owner->children = std::move(children);
  owner->dictionary = std::move(dictionary);
  owner->metadata = std::move(metadata);
  *schema = {
      .format = format,
      .name = name,
      .metadata = owner->metadata.empty() ? nullptr : owner->metadata.data(),
      .flags = flags,
      .n_children = static_cast<int64_t>(owner->children.size()),
      .children = owner->child_pointers.data(),
      .dictionary = owner->dictionary.get(),
      .release = release<SchemaOwner, ArrowSchema>,
      .private_data = owner.release(),
  };
  return schema;
}

}  // namespace netkit_bpf::arrow
