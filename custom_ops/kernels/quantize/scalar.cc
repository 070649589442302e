// SPDX-License-Identifier: Apache-2.0
#include "../arithmetic.h"
#include "quantize.h"

namespace bebert {

void quantize_scalar(const QuantizeRows& rows) {
  constexpr int64_t kBlock = 64;  // channels: a whole word of a bit-packed row
  const Quantizer& all = rows.quantizer;
  const float* x = rows.x;
  uint8_t* codes = rows.codes;
  for (int64_t t = 0; t < rows.tokens; ++t) {
    for (int64_t begin = 0; begin < rows.channels; begin += kBlock) {
      const int64_t count = smaller(kBlock, rows.channels - begin);
      float y[kBlock];
      for (int64_t c = 0; c < count; ++c) y[c] = activate(x[begin + c], rows.activation);
      for (int64_t c = 0; rows.gated && c < count; ++c) y[c] *= x[rows.channels + begin + c];
      const Quantizer block = {all.shift + begin, all.inverse_step + begin, all.code};
      quantize_row(y, count, block, codes + (all.code.width == 1 ? begin / 8 : begin));
    }
    x += rows.row_floats();
    codes += code_row_bytes(all.code, rows.channels);
  }
}

}  // namespace bebert
