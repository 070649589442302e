// SPDX-License-Identifier: Apache-2.0
#include "api.h"

#include <stdint.h>

namespace bebert {

namespace {

constexpr size_t kAlignment = 64;

struct NamedCode {
  const char* name;
  CodeType code;
};

// docs/ops.md, "Codes".
constexpr NamedCode kCodes[] = {
    {"sign", {1, -1, 1}}, {"bool", {1, 0, 1}},   {"ternary", {8, -1, 1}},
    {"int2", {8, -2, 1}}, {"int4", {8, -8, 7}},  {"int8", {8, -128, 127}},
    {"uint2", {8, 0, 3}}, {"uint4", {8, 0, 15}}, {"uint8", {8, 0, 255}},
};

Text& operator<<(Text& text, const int64_t (&triple)[3]) {
  return text << "[" << triple[0] << ", " << triple[1] << ", " << triple[2] << "]";
}

OrtAllocator* default_allocator(const OrtApi* api) {
  OrtAllocator* allocator = nullptr;
  if (OrtStatus* status = api->GetAllocatorWithDefaultOptions(&allocator)) api->ReleaseStatus(status);
  return allocator;
}

}  // namespace

// The block that the allocator gave is noted just before the aligned memory.
void* allocate(const OrtApi* api, OrtAllocator* allocator, size_t bytes) {
  if (!allocator || bytes > SIZE_MAX / 2) return nullptr;
  void* block = nullptr;
  if (OrtStatus* status = api->AllocatorAlloc(allocator, bytes + kAlignment + sizeof(void*), &block)) {
    api->ReleaseStatus(status);
    return nullptr;
  }
  if (!block) return nullptr;
  const uintptr_t end = reinterpret_cast<uintptr_t>(block) + sizeof(void*) + kAlignment - 1;
  void** memory = reinterpret_cast<void**>(end / kAlignment * kAlignment);
  memory[-1] = block;
  return memory;
}

void release(const OrtApi* api, OrtAllocator* allocator, void* memory) {
  if (!memory) return;
  if (OrtStatus* status = api->AllocatorFree(allocator, static_cast<void**>(memory)[-1])) api->ReleaseStatus(status);
}

OrtStatus* Node::error(const Text& text, OrtErrorCode code) const {
  Text message;
  message << op << ": " << text.characters();
  return api->CreateStatus(code, message.characters());
}

OrtStatus* Node::out_of_memory() const { return error(Text() << "out of memory", ORT_FAIL); }

OrtStatus* Node::find_constants(const OrtKernelInfo* info, size_t inputs) {
  for (size_t i = 0; i < inputs; ++i) {
    int32_t is_constant = 0;
    const OrtValue* value = nullptr;
    BEBERT_TRY(api->KernelInfoGetConstantInput_tensor(info, i, &is_constant, &value));
    if (is_constant && value) BEBERT_TRY(read(value, &constants[i]));
  }
  return nullptr;
}

OrtStatus* Node::read(const OrtValue* value, Array* array) const {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  BEBERT_TRY(api->GetTensorTypeAndShape(value, &info));
  OrtStatus* status = api->GetDimensionsCount(info, &array->rank);
  if (!status) status = api->GetDimensions(info, array->dims, array->sizes());
  api->ReleaseTensorTypeAndShapeInfo(info);
  BEBERT_TRY(status);
  void* data = nullptr;
  BEBERT_TRY(api->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  array->data = data;
  return nullptr;
}

void* Node::allocate(size_t bytes) const { return bebert::allocate(api, default_allocator(api), bytes); }

void Node::release(void* memory) const { bebert::release(api, default_allocator(api), memory); }

OrtStatus* Attributes::integers(const char* name, size_t count, int64_t low, int64_t high, int64_t* values) const {
  size_t found = count;
  if (OrtStatus* status = node.api->KernelInfoGetAttributeArray_int64(info, name, values, &found)) {
    node.api->ReleaseStatus(status);
    return node.error(Text() << "attribute " << name << " is missing or is not a list of "
                             << static_cast<int64_t>(count) << " integers");
  }
  if (found != count) {
    return node.error(Text() << "attribute " << name << " has " << static_cast<int64_t>(found) << " integers, expected "
                             << static_cast<int64_t>(count));
  }
  for (size_t i = 0; i < count; ++i) {
    if (values[i] < low || values[i] > high) {
      return node.error(Text() << "attribute " << name << " has " << values[i] << " at position "
                               << static_cast<int64_t>(i) << ", expected " << low << " .. " << high);
    }
  }
  return nullptr;
}

OrtStatus* Attributes::integer(const char* name, int64_t low, int64_t high, int64_t* value) const {
  if (OrtStatus* status = node.api->KernelInfoGetAttribute_int64(info, name, value)) {
    node.api->ReleaseStatus(status);
    return node.error(Text() << "attribute " << name << " is missing or is not an integer");
  }
  if (*value < low || *value > high) {
    return node.error(Text() << "attribute " << name << " is " << *value << ", expected " << low << " .. " << high);
  }
  return nullptr;
}

OrtStatus* Attributes::real(const char* name, float* value) const {
  if (OrtStatus* status = node.api->KernelInfoGetAttribute_float(info, name, value)) {
    node.api->ReleaseStatus(status);
    return node.error(Text() << "attribute " << name << " is missing or is not a float");
  }
  return nullptr;
}

OrtStatus* Attributes::code(const char* name, CodeType* code) const {
  int64_t triple[3] = {};
  BEBERT_TRY(integers(name, 3, INT64_MIN, INT64_MAX, triple));
  for (const NamedCode& known : kCodes) {
    if (triple[0] == known.code.width && triple[1] == known.code.low && triple[2] == known.code.high) {
      *code = known.code;
      return nullptr;
    }
  }
  Text text;
  text << "attribute " << name << " is ";
  text << triple << ", expected [width, low, high] of a code type:";
  for (const NamedCode& known : kCodes) {
    const int64_t expected[3] = {known.code.width, known.code.low, known.code.high};
    text << " " << known.name << " ";
    text << expected;
  }
  return node.error(text);
}

KernelHost::~KernelHost() {
  if (allocator_) api_->ReleaseAllocator(allocator_);
}

OrtStatus* KernelHost::open() {
  OrtMemoryInfo* memory = nullptr;
  BEBERT_TRY(api_->CreateCpuMemoryInfo(ORT_ARENA_ALLOCATOR, ORT_DEFAULT_MEMORY, &memory));
  OrtStatus* status = api_->KernelContext_GetAllocator(context_, memory, &allocator_);
  api_->ReleaseMemoryInfo(memory);
  return status;
}

Host KernelHost::host() { return {this, parallel_for, allocate, release}; }

// One batch a task, so that a thread that is done early takes the next.
void KernelHost::parallel_for(void* self, void (*task)(void*, size_t), size_t tasks, void* argument) {
  if (tasks == 0) return;
  if (tasks == 1) return task(argument, 0);
  KernelHost* host = static_cast<KernelHost*>(self);
  OrtStatus* status = host->api_->KernelContext_ParallelFor(host->context_, task, tasks, tasks, argument);
  if (!status) return;
  host->api_->ReleaseStatus(status);
  for (size_t i = 0; i < tasks; ++i) task(argument, i);
}

void* KernelHost::allocate(void* self, size_t bytes) {
  KernelHost* host = static_cast<KernelHost*>(self);
  return bebert::allocate(host->api_, host->allocator_, bytes);
}

void KernelHost::release(void* self, void* memory) {
  KernelHost* host = static_cast<KernelHost*>(self);
  bebert::release(host->api_, host->allocator_, memory);
}

Host creation_host(const Node& node) {
  Host host;
  host.context = const_cast<Node*>(&node);
  host.parallel_for = [](void*, void (*task)(void*, size_t), size_t tasks, void* argument) {
    for (size_t i = 0; i < tasks; ++i) task(argument, i);
  };
  host.allocate = [](void* self, size_t bytes) { return static_cast<const Node*>(self)->allocate(bytes); };
  host.release = [](void* self, void* memory) { static_cast<const Node*>(self)->release(memory); };
  return host;
}

}  // namespace bebert
