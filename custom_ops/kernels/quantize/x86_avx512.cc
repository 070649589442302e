// SPDX-License-Identifier: Apache-2.0
#include "../x86_avx512_arithmetic.h"
#include "quantize.h"

namespace bebert {

void quantize_x86_avx512(const QuantizeRows& rows) {
  const CodeRange range(rows.quantizer.code);
  const float* x = rows.x;
  uint8_t* codes = rows.codes;
  for (int64_t t = 0; t < rows.tokens; ++t) {
    for (int64_t c = 0; c < rows.channels; c += 16) {
      const __mmask16 lanes = first_lanes(rows.channels - c);
      quantize_lanes(_mm512_maskz_loadu_ps(lanes, x + c), rows.quantizer, range, c, lanes, codes);
    }
    clear_padding(rows.quantizer.code, rows.channels, codes);
    x += rows.channels;
    codes += code_row_bytes(rows.quantizer.code, rows.channels);
  }
}

}  // namespace bebert
