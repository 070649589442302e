// SPDX-License-Identifier: Apache-2.0
#include "tensors.h"

namespace bebert {

namespace {

void describe(Text& text, const Axis& axis) {
  if (axis.or_one) text << "1 or ";
  text << axis.dim->name;
  if (axis.dim->size >= 0) {
    text << "=" << axis.dim->size;
  } else if (axis.dim->least > 0) {
    text << ">=" << axis.dim->least;
  }
}

// "input 0 (x) has shape [2, 3], expected [1 or members=2, tokens, channels=8]".
OrtStatus* shape_error(const Node& node, const Tensor& tensor, const Array& array, const Axis* axes, size_t rank) {
  Text text;
  text << tensor;
  text << " has shape [";
  for (size_t i = 0; i < array.sizes(); ++i) text << (i ? ", " : "") << array.dims[i];
  text << "], expected [";
  for (size_t i = 0; i < rank; ++i) {
    if (i) text << ", ";
    describe(text, axes[i]);
  }
  return node.error(text << "]");
}

bool matches(const Axis& axis, int64_t size) {
  if (axis.or_one && size == 1) return true;
  if (axis.dim->size >= 0) return axis.dim->size == size;
  return size >= axis.dim->least;
}

}  // namespace

Text& operator<<(Text& text, const Tensor& tensor) {
  return text << "input " << static_cast<int64_t>(tensor.index) << " (" << tensor.name << ")";
}

OrtStatus* check_shape(const Node& node, const Array& array, size_t index, const char* name, const Axis* axes,
                       size_t rank, Tensor* tensor) {
  *tensor = {index, name, {}, array.data};
  bool good = array.rank == rank;
  for (size_t i = 0; good && i < rank; ++i) good = matches(axes[i], array.dims[i]);
  if (!good) return shape_error(node, *tensor, array, axes, rank);
  for (size_t i = 0; i < rank; ++i) {
    tensor->dims[i] = array.dims[i];
    if (!axes[i].or_one) axes[i].dim->size = array.dims[i];
  }
  return nullptr;
}

OrtStatus* Call::read(size_t index, const char* name, Array* array) const {
  const OrtValue* value = nullptr;
  BEBERT_TRY(node.api->KernelContext_GetInput(context, index, &value));
  if (value) return node.read(value, array);
  Text text;
  text << Tensor{index, name, {}, nullptr};
  return node.error(text << " is missing");
}

}  // namespace bebert
