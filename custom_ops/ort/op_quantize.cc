// SPDX-License-Identifier: Apache-2.0
#include "../kernels/quantize/quantize.h"
#include "op.h"
#include "ops.h"
#include "tensors.h"

namespace bebert {

namespace {

template <bool kGated>
struct QuantizeKernel {
  static constexpr const char* kName = kGated ? "bebert::GatedQuantize" : "bebert::Quantize";
  using Inputs = Types<ORT_FLOAT, ORT_FLOAT, ORT_FLOAT>;
  using Outputs = Types<ORT_UINT8>;

  Node node;
  Isa isa;
  CodeType output_code;
  Activation activation;

  OrtStatus* create(const OrtKernelInfo* info) {
    const Attributes attributes = {node, info};
    int64_t number = 0;
    BEBERT_TRY(attributes.integer("activation", 0, 2, &number));
    activation = static_cast<Activation>(number);
    return attributes.code("output_code", &output_code);
  }

  OrtStatus* compute(OrtKernelContext* context) const {
    const Call call(node, context);
    Dim members{"members"}, tokens{"tokens"}, channels{"channels", 1};
    Tensor x, shift, inverse_step;
    BEBERT_TRY(call.input(1, "shift", {members, channels}, &shift));
    BEBERT_TRY(call.input(2, "inverse_step", {members, channels}, &inverse_step));
    Dim x_channels{kGated ? "2 * channels" : "channels", 1, kGated ? 2 * channels.size : channels.size};
    BEBERT_TRY(call.input(0, "x", {one_or(members), tokens, x_channels}, &x));

    QuantizeArguments arguments;
    arguments.x = x.floats();
    arguments.shift = shift.floats();
    arguments.inverse_step = inverse_step.floats();
    arguments.x_members = x.dims[0];
    arguments.members = members.size;
    arguments.tokens = tokens.size;
    arguments.channels = channels.size;
    arguments.code = output_code;
    arguments.activation = activation;
    arguments.gated = kGated;
    const int64_t row_bytes = code_row_bytes(output_code, channels.size);
    BEBERT_TRY(call.output(0, {members.size, tokens.size, row_bytes}, &arguments.codes));
    KernelHost host(node.api, context);
    quantize(isa, arguments, host.host());
    return nullptr;
  }

  void destroy() {}
};

}  // namespace

const OrtCustomOp* quantize_op(Isa isa) { return op_for<QuantizeKernel<false>>(isa); }
const OrtCustomOp* gated_quantize_op(Isa isa) { return op_for<QuantizeKernel<true>>(isa); }

}  // namespace bebert
