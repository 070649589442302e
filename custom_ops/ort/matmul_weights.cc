// SPDX-License-Identifier: Apache-2.0
#include "matmul_weights.h"

namespace bebert {

namespace {

OrtStatus* check_weight(const Node& node, const Array& array, int64_t k, Dim& members, Dim& n, Tensor* weight) {
  Dim row_bytes{"bytes of k channels", 0, packed_row_bytes(k)};
  const Axis axes[] = {members, n, row_bytes};
  return check_shape(node, array, MatMulWeights::kInput, "weight", axes, 3, weight);
}

}  // namespace

OrtStatus* MatMulWeights::create(const Node& node, const OrtKernelInfo* info, Isa isa) {
  const Attributes attributes = {node, info};
  plan.isa = isa;
  BEBERT_TRY(attributes.integer("k", 1, kMaxSize, &plan.k));
  BEBERT_TRY(attributes.code("input_code", &plan.input));

  const Array& constant = node.constants[kInput];
  if (!constant.data) return nullptr;
  Dim members{"members"}, n{"n", 1};
  Tensor weight;
  BEBERT_TRY(check_weight(node, constant, plan.k, members, n, &weight));
  plan.members = members.size;
  plan.n = n.size;
  interleaved = static_cast<uint8_t*>(node.allocate(packed_binary_matmul_interleaved_bytes(plan)));
  if (!interleaved) return node.out_of_memory();
  packed_binary_matmul_interleave(plan, weight.codes(), interleaved, creation_host(node));
  return nullptr;
}

OrtStatus* MatMulWeights::constant_parameter(const Node& node, size_t index, const char* name,
                                             const float** data) const {
  *data = nullptr;
  if (!node.constants[index].data || !interleaved) return nullptr;
  Dim members{"members", 0, plan.members}, n{"n", 1, plan.n};
  const Axis axes[] = {members, n};
  Tensor tensor;
  BEBERT_TRY(check_shape(node, node.constants[index], index, name, axes, 2, &tensor));
  *data = tensor.floats();
  return nullptr;
}

void MatMulWeights::destroy(const Node& node) { node.release(interleaved); }

MatMulOperands::~MatMulOperands() {
  if (owned_) host_.release(host_.context, owned_);
}

OrtStatus* MatMulOperands::read_weights(PackedBinaryMatMulArgs* args) {
  if (weights_.interleaved) {
    members_.size = plan_.members;
    n_.size = plan_.n;
    args->weights = weights_.interleaved;
    return nullptr;
  }
  Dim row_bytes{"bytes of k channels", 0, packed_row_bytes(plan_.k)};
  Tensor weight;
  BEBERT_TRY(call_.input(MatMulWeights::kInput, "weight", {members_, n_, row_bytes}, &weight));
  plan_.members = members_.size;
  plan_.n = n_.size;
  owned_ = static_cast<uint8_t*>(host_.allocate(host_.context, packed_binary_matmul_interleaved_bytes(plan_)));
  if (!owned_) return call_.node.out_of_memory();
  packed_binary_matmul_interleave(plan_, weight.codes(), owned_, host_);
  args->weights = owned_;
  return nullptr;
}

OrtStatus* MatMulOperands::read(PackedBinaryMatMulArgs* args) {
  BEBERT_TRY(read_weights(args));
  Dim tokens{"tokens"}, row_bytes{"bytes of k codes", 0, code_row_bytes(plan_.input, plan_.k)};
  Tensor codes;
  BEBERT_TRY(call_.input(0, "codes", {one_or(members_), tokens, row_bytes}, &codes));
  args->codes = codes.codes();
  args->code_members = codes.dims[0];
  args->tokens = tokens.size;
  BEBERT_TRY(parameter(2, "scale", &args->scale));
  return parameter(3, "bias", &args->bias);
}

OrtStatus* MatMulOperands::parameter(size_t index, const char* name, const float** data) {
  Tensor tensor;
  BEBERT_TRY(call_.input(index, name, {members_, n_}, &tensor));
  *data = tensor.floats();
  return nullptr;
}

}  // namespace bebert
