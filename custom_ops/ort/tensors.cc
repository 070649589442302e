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
OrtStatus* shape_error(const Node& node, const Tensor& tensor, const int64_t* dims, size_t found, const Axis* axes,
                       int rank) {
  Text text;
  text << tensor;
  text << " has shape [";
  for (size_t i = 0; i < found; ++i) text << (i ? ", " : "") << dims[i];
  text << "], expected [";
  for (int i = 0; i < rank; ++i) {
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

OrtStatus* read_value(const Node& node, const OrtValue* value, size_t index, const char* name, const Axis* axes,
                      int rank, Tensor* tensor) {
  *tensor = {index, name, {}, nullptr};
  if (!value) {
    Text text;
    text << *tensor;
    return node.error(text << " is missing");
  }

  constexpr size_t kShownRank = 8;
  int64_t dims[kShownRank] = {};
  size_t found = 0;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  BEBERT_TRY(node.api->GetTensorTypeAndShape(value, &info));
  OrtStatus* status = node.api->GetDimensionsCount(info, &found);
  if (!status) status = node.api->GetDimensions(info, dims, found < kShownRank ? found : kShownRank);
  node.api->ReleaseTensorTypeAndShapeInfo(info);
  BEBERT_TRY(status);

  bool good = found == static_cast<size_t>(rank);
  for (int i = 0; good && i < rank; ++i) good = matches(axes[i], dims[i]);
  if (!good) return shape_error(node, *tensor, dims, found < kShownRank ? found : kShownRank, axes, rank);
  for (int i = 0; i < rank; ++i) {
    tensor->dims[i] = dims[i];
    if (!axes[i].or_one) axes[i].dim->size = dims[i];
  }

  void* data = nullptr;
  BEBERT_TRY(node.api->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  tensor->data = data;
  return nullptr;
}

}  // namespace bebert
