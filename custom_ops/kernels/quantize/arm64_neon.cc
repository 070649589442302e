// SPDX-License-Identifier: Apache-2.0
#include "../arm64_neon_arithmetic.h"
#include "quantize.h"

namespace bebert {

namespace {

template <Activation kActivation>
void quantize_activated(const QuantizeRows& rows) {
  const CodeRange range(rows.quantizer.code);
  const int64_t channels = rows.channels;
  const float* x = rows.x;
  uint8_t* codes = rows.codes;
  for (int64_t t = 0; t < rows.tokens; ++t) {
    for_each_sixteen(channels, [&](int64_t c, int64_t count) {
      Floats y = load_floats(x + c, count);
      for (int i = 0; i < 4; ++i) y.v[i] = activate<kActivation>(y.v[i]);
      if (rows.gated) {
        const Floats gates = load_floats(x + channels + c, count);
        for (int i = 0; i < 4; ++i) y.v[i] = vmulq_f32(y.v[i], gates.v[i]);
      }
      quantize_lanes(y, rows.quantizer, range, c, count, codes);
    });
    clear_padding(rows.quantizer.code, channels, codes);
    x += rows.row_floats();
    codes += code_row_bytes(rows.quantizer.code, channels);
  }
}

}  // namespace

void quantize_arm64_neon(const QuantizeRows& rows) {
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
