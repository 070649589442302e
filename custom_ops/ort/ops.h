// SPDX-License-Identifier: Apache-2.0
// The ops of the domain, each in its op_<name>.cc: docs/ops.md.
#ifndef BEBERT_EDGE_ORT_OPS_H_
#define BEBERT_EDGE_ORT_OPS_H_

#include "../kernels/cpu.h"
#include "abi.h"

namespace bebert {

const OrtCustomOp* add_layer_norm_quantize_op(Isa isa);
const OrtCustomOp* binary_attention_op(Isa isa);
const OrtCustomOp* biased_binary_attention_op(Isa isa);
const OrtCustomOp* cpu_path_op(Isa isa);
const OrtCustomOp* gated_quantize_op(Isa isa);
const OrtCustomOp* packed_binary_embedding_op(Isa isa);
const OrtCustomOp* packed_binary_matmul_op(Isa isa);
const OrtCustomOp* packed_binary_matmul_quantize_op(Isa isa);
const OrtCustomOp* quantize_op(Isa isa);

}  // namespace bebert

#endif  // BEBERT_EDGE_ORT_OPS_H_
