// SPDX-License-Identifier: Apache-2.0
#include "matmul_weights.h"
#include "op.h"
#include "ops.h"

namespace bebert {

namespace {

struct PackedBinaryMatMulKernel {
  static constexpr const char* kName = "bebert::PackedBinaryMatMul";
  using Inputs = Types<ORT_UINT8, ORT_UINT8, ORT_FLOAT, ORT_FLOAT>;
  using Outputs = Types<ORT_FLOAT>;

  Node node;
  Isa isa;
  MatMulWeights weights;

  OrtStatus* create(const OrtKernelInfo* info) { return weights.create(node, info, isa); }

  OrtStatus* compute(OrtKernelContext* context) const {
    const Call call(node, context);
    KernelHost kernel_host(node.api, context);
    BEBERT_TRY(kernel_host.open());
    const Host host = kernel_host.host();
    MatMulOperands operands(call, weights, host);
    PackedBinaryMatMulArgs args = {};
    BEBERT_TRY(operands.read(&args));
    BEBERT_TRY(call.output(0, {operands.plan().members, args.tokens, operands.plan().n}, &args.y));
    return packed_binary_matmul_run(operands.plan(), args, host) ? nullptr : node.out_of_memory();
  }

  void destroy() { weights.destroy(node); }
};

}  // namespace

const OrtCustomOp* packed_binary_matmul_op(Isa isa) { return op_for<PackedBinaryMatMulKernel>(isa); }

}  // namespace bebert
