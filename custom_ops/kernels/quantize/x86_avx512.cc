// SPDX-License-Identifier: Apache-2.0
#include "../x86_avx512_rows.h"
#include "quantize.h"

namespace bebert {

namespace {

template <Activation kActivation, int kRows>
void quantize_tokens(const QuantizeRows& rows, const CodeRange& range, int64_t token) {
  const int64_t channels = rows.channels, row_bytes = code_row_bytes(rows.quantizer.code, channels);
  const int64_t stride = rows.row_floats();
  const float* x = rows.x + token * stride;
  const bool gated = rows.gated;
  quantize_rows<kRows>(rows.quantizer, range, channels, rows.codes + token * row_bytes, row_bytes,
                       [=](int64_t c, __mmask16 lanes, __m512(&y)[kRows]) {
                         for (int r = 0; r < kRows; ++r) {
                           const float* row = x + r * stride + c;
                           y[r] = activate<kActivation>(_mm512_maskz_loadu_ps(lanes, row));
                           if (gated) y[r] = _mm512_mul_ps(y[r], _mm512_maskz_loadu_ps(lanes, row + channels));
                         }
                       });
}

template <Activation kActivation>
void quantize_activated(const QuantizeRows& rows) {
  const CodeRange range(rows.quantizer.code);
  int64_t token = 0;
  for (; token + 2 <= rows.tokens; token += 2) quantize_tokens<kActivation, 2>(rows, range, token);
  if (token < rows.tokens) quantize_tokens<kActivation, 1>(rows, range, token);
}

}  // namespace

void quantize_x86_avx512(const QuantizeRows& rows) {
  switch (rows.activation) {
    case Activation::relu:
      return quantize_activated<Activation::relu>(rows);
    case Activation::gelu:
      return quantize_activated<Activation::gelu>(rows);
    case Activation::none:
      break;
  }
  quantize_activated<Activation::none>(rows);
}

}  // namespace bebert
