// SPDX-License-Identifier: Apache-2.0
#include "../x86_avx2_arithmetic.h"
#include "quantize.h"

namespace bebert {

void quantize_x86_avx2(const QuantizeRows& rows) {
  const float* x = rows.x;
  uint8_t* codes = rows.codes;
  for (int64_t t = 0; t < rows.tokens; ++t) {
    const auto value = [x](int64_t c, const Lanes& lanes) { return load_floats(x + c, lanes); };
    quantize_row(value, rows.channels, rows.quantizer, codes);
    x += rows.channels;
    codes += code_row_bytes(rows.quantizer.code, rows.channels);
  }
}

}  // namespace bebert
