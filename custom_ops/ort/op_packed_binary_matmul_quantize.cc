// SPDX-License-Identifier: Apache-2.0
#include "matmul_weights.h"
#include "op.h"
#include "ops.h"

namespace bebert {

namespace {

struct PackedBinaryMatMulQuantizeKernel {
  static constexpr const char* kName = "bebert::PackedBinaryMatMulQuantize";
  using Inputs = Types<ORT_UINT8, ORT_UINT8, ORT_FLOAT, ORT_FLOAT, ORT_FLOAT, ORT_FLOAT>;
  using Outputs = Types<ORT_UINT8>;

  Node node;
  Isa isa;
  MatMulWeights weights;
  CodeType output_code;
  Activation activation;

  OrtStatus* create(const OrtKernelInfo* info) {
    const Attributes attributes = {node, info};
    int64_t number = 0;
    BEBERT_TRY(attributes.integer("activation", 0, 2, &number));
    activation = static_cast<Activation>(number);
    BEBERT_TRY(attributes.code("output_code", &output_code));
    return weights.create(node, info, isa);
  }

  OrtStatus* compute(OrtKernelContext* context) const {
    const Call call = {node, context};
    KernelHost kernel_host(node.api, context);
    BEBERT_TRY(kernel_host.open());
    const Host host = kernel_host.host();
    MatMulOperands operands(call, weights, host);
    PackedBinaryMatMulArgs args = {};
    args.activation = activation;
    args.output = output_code;
    BEBERT_TRY(operands.read(&args));
    BEBERT_TRY(operands.parameter(4, "shift", &args.shift));
    BEBERT_TRY(operands.parameter(5, "inverse_step", &args.inverse_step));
    const int64_t row_bytes = code_row_bytes(output_code, operands.plan().n);
    BEBERT_TRY(call.output(0, {operands.plan().members, args.tokens, row_bytes}, &args.codes_out));
    return packed_binary_matmul_run(operands.plan(), args, host) ? nullptr : node.out_of_memory();
  }

  void destroy() { weights.destroy(node); }
};

}  // namespace

const OrtCustomOp* packed_binary_matmul_quantize_op(Isa isa) { return op_for<PackedBinaryMatMulQuantizeKernel>(isa); }

}  // namespace bebert
