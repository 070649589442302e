// SPDX-License-Identifier: Apache-2.0
// Inputs with checked shapes, and outputs.
#ifndef BEBERT_EDGE_ORT_TENSORS_H_
#define BEBERT_EDGE_ORT_TENSORS_H_

#include "api.h"

namespace bebert {

constexpr size_t kMaxRank = 3;

// A size that several inputs share. The first input that has it binds it, the others must agree.
struct Dim {
  const char* name;
  int64_t least = 0;
  int64_t size = -1;  // -1: not bound yet
};

// What an input has at one position of its shape.
struct Axis {
  Dim* dim;
  bool or_one;

  Axis(Dim& dim_) : dim(&dim_), or_one(false) {}
  Axis(Dim& dim_, bool or_one_) : dim(&dim_), or_one(or_one_) {}
};

// 1 or the size of `dim`, which must be bound by then.
inline Axis one_or(Dim& dim) { return Axis(dim, true); }

struct Tensor {
  size_t index;
  const char* name;
  int64_t dims[kMaxRank];
  const void* data;

  const float* floats() const { return static_cast<const float*>(data); }
  const uint8_t* codes() const { return static_cast<const uint8_t*>(data); }
  const int64_t* integers() const { return static_cast<const int64_t*>(data); }
};

// Takes `array` as the input `index`, called `name`, and checks its shape.
OrtStatus* check_shape(const Node& node, const Array& array, size_t index, const char* name, const Axis* axes,
                       size_t rank, Tensor* tensor);

// Inputs and outputs of one call of a kernel.
class Call {
 public:
  Call(const Node& node_, OrtKernelContext* context_) : node(node_), context(context_) {}

  const Node& node;
  OrtKernelContext* context;

  template <size_t rank>
  OrtStatus* input(size_t index, const char* name, const Axis (&axes)[rank], Tensor* tensor) const {
    static_assert(rank <= kMaxRank, "a Tensor holds no more sizes");
    const Array& constant = node.constants[index];
    if (constant.data) return check_shape(node, constant, index, name, axes, rank, tensor);
    Array array = {};
    BEBERT_TRY(read(index, name, &array));
    return check_shape(node, array, index, name, axes, rank, tensor);
  }

  template <size_t rank, class Element>
  OrtStatus* output(size_t index, const int64_t (&dims)[rank], Element** data) const {
    OrtValue* value = nullptr;
    BEBERT_TRY(node.api->KernelContext_GetOutput(context, index, dims, rank, &value));
    void* memory = nullptr;
    BEBERT_TRY(node.api->GetTensorMutableData(value, &memory));
    *data = static_cast<Element*>(memory);
    return nullptr;
  }

 private:
  OrtStatus* read(size_t index, const char* name, Array* array) const;
};

// "input 3 (offsets)".
Text& operator<<(Text& text, const Tensor& tensor);

}  // namespace bebert

#endif  // BEBERT_EDGE_ORT_TENSORS_H_
