// SPDX-License-Identifier: Apache-2.0
// The weights of a packed binary matrix product: interleaved for the CPU path once, when the session is created, where
// they are constant, and in every call where they are not.
#ifndef BEBERT_EDGE_ORT_MATMUL_WEIGHTS_H_
#define BEBERT_EDGE_ORT_MATMUL_WEIGHTS_H_

#include "../kernels/packed_binary_matmul/packed_binary_matmul.h"
#include "tensors.h"

namespace bebert {

struct MatMulWeights {
  static constexpr size_t kInput = 1;

  PackedBinaryMatMulPlan plan;  // members and n are known only where the weights are constant
  uint8_t* interleaved;         // null where the weights are not constant

  // Reads the attributes k and input_code.
  OrtStatus* create(const Node& node, const OrtKernelInfo* info, Isa isa);
  // An input of shape [members, n]; after create(). Null data where it, or the weights, are not constant.
  OrtStatus* constant_parameter(const Node& node, size_t index, const char* name, const float** data) const;
  void destroy(const Node& node);
};

// The operands that both matrix product ops share, for one call.
class MatMulOperands {
 public:
  MatMulOperands(const Call& call, const MatMulWeights& weights, const Host& host)
      : call_(call), weights_(weights), host_(host), plan_(weights.plan) {}
  ~MatMulOperands();
  MatMulOperands(const MatMulOperands&) = delete;

  // Fills in codes, weights, scale and bias.
  OrtStatus* read(PackedBinaryMatMulArgs* args);
  // An input of shape [members, n]; after read().
  OrtStatus* parameter(size_t index, const char* name, const float** data);

  const PackedBinaryMatMulPlan& plan() const { return plan_; }

 private:
  OrtStatus* read_weights(PackedBinaryMatMulArgs* args);

  const Call& call_;
  const MatMulWeights& weights_;
  const Host& host_;
  PackedBinaryMatMulPlan plan_;
  Dim members_{"members"}, n_{"n", 1};
  uint8_t* owned_ = nullptr;
};

}  // namespace bebert

#endif  // BEBERT_EDGE_ORT_MATMUL_WEIGHTS_H_
