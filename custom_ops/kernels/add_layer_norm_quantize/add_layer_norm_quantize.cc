// SPDX-License-Identifier: Apache-2.0
#include "add_layer_norm_quantize.h"

#include "../dispatch.h"

namespace bebert {

namespace {

using Kernel = void (*)(const AddLayerNormQuantizeRows&);

Kernel choose(Isa live) {
#define KERNEL(isa) \
  if (may_run(live, Isa::isa)) return add_layer_norm_quantize_##isa;
#include "kernels.inc"
#undef KERNEL
  return nullptr;
}

AddLayerNormQuantizeRows rows_of(const AddLayerNormQuantizeArguments& a, int64_t member, int64_t begin, int64_t count) {
  const int64_t x_member = a.x_members == 1 ? 0 : member;
  const int64_t residual_member = a.residual_members == 1 ? 0 : member;
  const int64_t parameters = member * a.channels;
  AddLayerNormQuantizeRows rows;
  rows.x = a.x + (x_member * a.tokens + begin) * a.channels;
  rows.residual = a.residual + (residual_member * a.tokens + begin) * a.channels;
  rows.gamma = a.gamma + parameters;
  rows.beta = a.beta + parameters;
  rows.epsilon = a.epsilon;
  rows.tokens = count;
  rows.channels = a.channels;
  rows.quantizer = {a.shift + parameters, a.inverse_step + parameters, a.code};
  rows.y = a.y + (member * a.tokens + begin) * a.channels;
  rows.codes = a.codes + (member * a.tokens + begin) * code_row_bytes(a.code, a.channels);
  return rows;
}

}  // namespace

void add_layer_norm_quantize(Isa isa, const AddLayerNormQuantizeArguments& arguments, const Host& host) {
  RowsJob<AddLayerNormQuantizeArguments, AddLayerNormQuantizeRows>{choose(isa), rows_of, arguments}.run(host);
}

}  // namespace bebert
