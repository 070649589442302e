// SPDX-License-Identifier: Apache-2.0
// Readable wrappers of the C ABI. Functions that can fail return OrtStatus*, null on success.
#ifndef BEBERT_EDGE_ORT_API_H_
#define BEBERT_EDGE_ORT_API_H_

#include "../kernels/codes.h"
#include "../kernels/host.h"
#include "abi.h"
#include "text.h"

#define BEBERT_TRY(expression)                             \
  do {                                                     \
    if (OrtStatus* status_ = (expression)) return status_; \
  } while (false)

namespace bebert {

// 64-byte aligned memory of an allocator; null if there is none left.
void* allocate(const OrtApi* api, OrtAllocator* allocator, size_t bytes);
void release(const OrtApi* api, OrtAllocator* allocator, void* memory);

// A tensor in memory, and its shape: the first sizes of it, where there are more.
struct Array {
  static constexpr size_t kSizes = 6;

  const void* data;
  size_t rank;
  int64_t dims[kSizes];

  size_t sizes() const { return rank < kSizes ? rank : kSizes; }
};

// One node of a graph, as its messages name it.
struct Node {
  static constexpr size_t kMaxInputs = 11;

  const OrtApi* api;
  const char* op;               // "bebert::Quantize"
  Array constants[kMaxInputs];  // the inputs that are constant; data is null for the others

  OrtStatus* error(const Text& text, OrtErrorCode code = ORT_INVALID_ARGUMENT) const;
  OrtStatus* out_of_memory() const;

  // At creation: asking for the shapes of constants in every call would take a third of the time of a short one.
  OrtStatus* find_constants(const OrtKernelInfo* info, size_t inputs);
  OrtStatus* read(const OrtValue* value, Array* array) const;

  // Memory that lives as long as the kernel.
  void* allocate(size_t bytes) const;
  void release(void* memory) const;
};

// Attributes of a node; each is required.
struct Attributes {
  const Node& node;
  const OrtKernelInfo* info;

  OrtStatus* integer(const char* name, int64_t low, int64_t high, int64_t* value) const;
  OrtStatus* integers(const char* name, size_t count, int64_t low, int64_t high, int64_t* values) const;
  OrtStatus* real(const char* name, float* value) const;
  OrtStatus* code(const char* name, CodeType* code) const;
};

// Sizes and counts in attributes: products of two fit into 64 bits.
constexpr int64_t kMaxSize = INT32_MAX;

// What a driver asks of its host, answered by onnxruntime for the time of one KernelCompute.
class KernelHost {
 public:
  KernelHost(const OrtApi* api, OrtKernelContext* context) : api_(api), context_(context) {}
  ~KernelHost();
  KernelHost(const KernelHost&) = delete;

  // Gets the session's allocator: needed by drivers that allocate.
  OrtStatus* open();
  Host host();

 private:
  static void parallel_for(void* self, void (*task)(void*, size_t), size_t tasks, void* argument);
  static void* allocate(void* self, size_t bytes);
  static void release(void* self, void* memory);

  const OrtApi* api_;
  OrtKernelContext* context_;
  OrtAllocator* allocator_ = nullptr;
};

// A host for work at session creation: one thread, memory as of Node.
Host creation_host(const Node& node);

}  // namespace bebert

#endif  // BEBERT_EDGE_ORT_API_H_
