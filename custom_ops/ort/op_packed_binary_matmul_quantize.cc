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
  int32_t* zero_begin;  // [sets, members, n], or null; zero_length stands behind it
  uint32_t* zero_length;
  void* levels;  // or null

  OrtStatus* create(const OrtKernelInfo* info) {
    const Attributes attributes = {node, info};
    int64_t number = 0;
    BEBERT_TRY(attributes.integer("activation", 0, 2, &number));
    activation = static_cast<Activation>(number);
    BEBERT_TRY(attributes.code("output_code", &output_code));
    BEBERT_TRY(weights.create(node, info, isa));
    return find_codes_by_sums();
  }

  OrtStatus* find_codes_by_sums() {
    PackedBinaryMatMulArgs args = {};
    BEBERT_TRY(weights.constant_parameter(node, 2, "scale", &args.scale));
    BEBERT_TRY(weights.constant_parameter(node, 3, "bias", &args.bias));
    BEBERT_TRY(weights.constant_parameter(node, 4, "shift", &args.shift));
    BEBERT_TRY(weights.constant_parameter(node, 5, "inverse_step", &args.inverse_step));
    if (!args.scale || !args.bias || !args.shift || !args.inverse_step) return nullptr;
    args.output = output_code;
    args.activation = activation;
    BEBERT_TRY(find_levels(args));
    return levels ? nullptr : find_zero_ranges(args);
  }

  OrtStatus* find_zero_ranges(const PackedBinaryMatMulArgs& args) {
    const int64_t count = packed_binary_matmul_zero_sets(output_code) * weights.plan.members * weights.plan.n;
    if (count == 0) return nullptr;
    zero_begin = static_cast<int32_t*>(node.allocate(2 * static_cast<size_t>(count) * sizeof(int32_t)));
    if (!zero_begin) return node.out_of_memory();
    zero_length = reinterpret_cast<uint32_t*>(zero_begin + count);
    if (packed_binary_matmul_zero_ranges(weights.plan, args, zero_begin, zero_length)) return nullptr;
    node.release(zero_begin);
    zero_begin = nullptr;
    return nullptr;
  }

  OrtStatus* find_levels(const PackedBinaryMatMulArgs& args) {
    const size_t bytes = packed_binary_matmul_level_bytes(weights.plan, output_code, activation);
    if (bytes == 0) return nullptr;
    levels = node.allocate(bytes);
    if (!levels) return node.out_of_memory();
    if (packed_binary_matmul_find_levels(weights.plan, args, levels) > 0) return nullptr;
    node.release(levels);
    levels = nullptr;
    return nullptr;
  }

  OrtStatus* compute(OrtKernelContext* context) const {
    const Call call(node, context);
    KernelHost kernel_host(node.api, context);
    BEBERT_TRY(kernel_host.open());
    const Host host = kernel_host.host();
    MatMulOperands operands(call, weights, host);
    PackedBinaryMatMulArgs args = {};
    args.activation = activation;
    args.output = output_code;
    args.zero_begin = zero_begin;
    args.zero_length = zero_length;
    args.levels = levels;
    BEBERT_TRY(operands.read(&args));
    BEBERT_TRY(operands.parameter(4, "shift", &args.shift));
    BEBERT_TRY(operands.parameter(5, "inverse_step", &args.inverse_step));
    const int64_t row_bytes = code_row_bytes(output_code, operands.plan().n);
    BEBERT_TRY(call.output(0, {operands.plan().members, args.tokens, row_bytes}, &args.codes_out));
    return packed_binary_matmul_run(operands.plan(), args, host) ? nullptr : node.out_of_memory();
  }

  void destroy() {
    node.release(levels);
    node.release(zero_begin);
    weights.destroy(node);
  }
};

}  // namespace

const OrtCustomOp* packed_binary_matmul_quantize_op(Isa isa) { return op_for<PackedBinaryMatMulQuantizeKernel>(isa); }

}  // namespace bebert
