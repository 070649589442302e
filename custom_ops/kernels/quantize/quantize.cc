// SPDX-License-Identifier: Apache-2.0
#include "quantize.h"

#include "../dispatch.h"

namespace bebert {

namespace {

using Kernel = void (*)(const QuantizeRows&);

Kernel choose(Isa live) {
#define KERNEL(isa) \
  if (may_run(live, Isa::isa)) return quantize_##isa;
#include "kernels.inc"
#undef KERNEL
  return nullptr;
}

QuantizeRows rows_of(const QuantizeArguments& a, int64_t member, int64_t begin, int64_t count) {
  const int64_t x_member = a.x_members == 1 ? 0 : member;
  QuantizeRows rows;
  rows.gated = a.gated;
  rows.channels = a.channels;
  rows.x = a.x + (x_member * a.tokens + begin) * rows.row_floats();
  rows.tokens = count;
  rows.activation = a.activation;
  rows.quantizer = {a.shift + member * a.channels, a.inverse_step + member * a.channels, a.code};
  rows.codes = a.codes + (member * a.tokens + begin) * code_row_bytes(a.code, a.channels);
  return rows;
}

}  // namespace

void quantize(Isa isa, const QuantizeArguments& arguments, const Host& host) {
  RowsJob<QuantizeArguments, QuantizeRows>{choose(isa), rows_of, arguments}.run(host);
}

}  // namespace bebert
