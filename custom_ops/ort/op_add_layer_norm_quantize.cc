// SPDX-License-Identifier: Apache-2.0
#include "../kernels/add_layer_norm_quantize/add_layer_norm_quantize.h"
#include "op.h"
#include "ops.h"
#include "tensors.h"

namespace bebert {

namespace {

struct AddLayerNormQuantizeKernel {
  static constexpr const char* kName = "bebert::AddLayerNormQuantize";
  using Inputs = Types<ORT_FLOAT, ORT_FLOAT, ORT_FLOAT, ORT_FLOAT, ORT_FLOAT, ORT_FLOAT>;
  using Outputs = Types<ORT_FLOAT, ORT_UINT8>;

  Node node;
  Isa isa;
  CodeType output_code;
  float epsilon;

  OrtStatus* create(const OrtKernelInfo* info) {
    const Attributes attributes = {node, info};
    BEBERT_TRY(attributes.real("epsilon", &epsilon));
    if (!(epsilon >= 0)) return node.error(Text() << "attribute epsilon is not a number of at least 0");
    return attributes.code("output_code", &output_code);
  }

  OrtStatus* compute(OrtKernelContext* context) const {
    const Call call(node, context);
    Dim members{"members"}, tokens{"tokens"}, channels{"channels", 1};
    Tensor x, residual, gamma, beta, shift, inverse_step;
    BEBERT_TRY(call.input(2, "gamma", {members, channels}, &gamma));
    BEBERT_TRY(call.input(3, "beta", {members, channels}, &beta));
    BEBERT_TRY(call.input(4, "shift", {members, channels}, &shift));
    BEBERT_TRY(call.input(5, "inverse_step", {members, channels}, &inverse_step));
    BEBERT_TRY(call.input(0, "x", {one_or(members), tokens, channels}, &x));
    BEBERT_TRY(call.input(1, "residual", {one_or(members), tokens, channels}, &residual));

    AddLayerNormQuantizeArguments arguments;
    arguments.x = x.floats();
    arguments.residual = residual.floats();
    arguments.gamma = gamma.floats();
    arguments.beta = beta.floats();
    arguments.shift = shift.floats();
    arguments.inverse_step = inverse_step.floats();
    arguments.x_members = x.dims[0];
    arguments.residual_members = residual.dims[0];
    arguments.members = members.size;
    arguments.tokens = tokens.size;
    arguments.channels = channels.size;
    arguments.epsilon = epsilon;
    arguments.code = output_code;
    const int64_t row_bytes = code_row_bytes(output_code, channels.size);
    BEBERT_TRY(call.output(0, {members.size, tokens.size, channels.size}, &arguments.y));
    BEBERT_TRY(call.output(1, {members.size, tokens.size, row_bytes}, &arguments.codes));
    KernelHost host(node.api, context);
    add_layer_norm_quantize(isa, arguments, host.host());
    return nullptr;
  }

  void destroy() {}
};

}  // namespace

const OrtCustomOp* add_layer_norm_quantize_op(Isa isa) { return op_for<AddLayerNormQuantizeKernel>(isa); }

}  // namespace bebert
