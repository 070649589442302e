// SPDX-License-Identifier: Apache-2.0
// bebert::AddLayerNormQuantize: docs/ops.md.
#ifndef BEBERT_EDGE_KERNELS_ADD_LAYER_NORM_QUANTIZE_H_
#define BEBERT_EDGE_KERNELS_ADD_LAYER_NORM_QUANTIZE_H_

#include <stdint.h>

#include "../codes.h"
#include "../cpu.h"
#include "../host.h"

namespace bebert {

// Some tokens of one member.
struct AddLayerNormQuantizeRows {
  const float* x;         // [tokens, channels]
  const float* residual;  // [tokens, channels]
  const float* gamma;     // [channels]
  const float* beta;      // [channels]
  float epsilon;
  int64_t tokens, channels;
  Quantizer quantizer;
  float* y;        // [tokens, channels]
  uint8_t* codes;  // [tokens, code_row_bytes]; every byte is written, padding bits are zero
};

#define KERNEL(isa) void add_layer_norm_quantize_##isa(const AddLayerNormQuantizeRows& rows);
#include "kernels.inc"
#undef KERNEL

// All members; `x_members` and `residual_members` are 1 or `members`.
struct AddLayerNormQuantizeArguments {
  const float* x;         // [x_members, tokens, channels]
  const float* residual;  // [residual_members, tokens, channels]
  const float* gamma;     // [members, channels], like the next three
  const float* beta;
  const float* shift;
  const float* inverse_step;
  float* y;        // [members, tokens, channels]
  uint8_t* codes;  // [members, tokens, code_row_bytes]
  int64_t x_members, residual_members, members, tokens, channels;
  float epsilon;
  CodeType code;
};

void add_layer_norm_quantize(Isa isa, const AddLayerNormQuantizeArguments& arguments, const Host& host);

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_ADD_LAYER_NORM_QUANTIZE_H_
