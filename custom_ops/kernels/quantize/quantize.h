// SPDX-License-Identifier: Apache-2.0
// bebert::Quantize and bebert::GatedQuantize: docs/ops.md.
#ifndef BEBERT_EDGE_KERNELS_QUANTIZE_H_
#define BEBERT_EDGE_KERNELS_QUANTIZE_H_

#include <stdint.h>

#include "../activation.h"
#include "../codes.h"
#include "../cpu.h"
#include "../host.h"

namespace bebert {

// Some tokens of one member.
struct QuantizeRows {
  const float* x;  // [tokens, channels]; gated: [tokens, 2, channels], the second half multiplies the first
  int64_t tokens, channels;
  Activation activation;
  bool gated;
  Quantizer quantizer;
  uint8_t* codes;  // [tokens, code_row_bytes]; every byte is written, padding bits are zero

  int64_t row_floats() const { return gated ? 2 * channels : channels; }
};

#define KERNEL(isa) void quantize_##isa(const QuantizeRows& rows);
#include "kernels.inc"
#undef KERNEL

// All members; `x_members` is 1 or `members`.
struct QuantizeArguments {
  const float* x;             // [x_members, tokens, channels], or [x_members, tokens, 2, channels] if gated
  const float* shift;         // [members, channels]
  const float* inverse_step;  // [members, channels]
  uint8_t* codes;             // [members, tokens, code_row_bytes]
  int64_t x_members, members, tokens, channels;
  CodeType code;
  Activation activation;
  bool gated = false;
};

void quantize(Isa isa, const QuantizeArguments& arguments, const Host& host);

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_QUANTIZE_H_
