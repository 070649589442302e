// SPDX-License-Identifier: Apache-2.0
#include "../x86_avx2_arithmetic.h"
#include "quantize.h"

namespace bebert {

namespace {

void quantize_plain(const QuantizeRows& rows) {
  const float* x = rows.x;
  uint8_t* codes = rows.codes;
  for (int64_t t = 0; t < rows.tokens; ++t) {
    const auto value = [x, &rows](int64_t c, const Lanes& lanes) {
      const __m256 y = load_floats(x + c, lanes);
      return rows.gated ? _mm256_mul_ps(y, load_floats(x + rows.channels + c, lanes)) : y;
    };
    quantize_row(value, rows.channels, rows.quantizer, codes);
    x += rows.row_floats();
    codes += code_row_bytes(rows.quantizer.code, rows.channels);
  }
}

// Rows are cut into blocks of whole words of a bit-packed row, so that GELU works on four vectors at a time.
template <Activation kActivation>
void quantize_activated(const QuantizeRows& rows) {
  constexpr int64_t kBlock = 64;
  const Quantizer& all = rows.quantizer;
  const float* x = rows.x;
  uint8_t* codes = rows.codes;
  for (int64_t t = 0; t < rows.tokens; ++t) {
    for (int64_t begin = 0; begin < rows.channels; begin += kBlock) {
      const int64_t count = smaller(kBlock, rows.channels - begin);
      alignas(32) float block[kBlock];
      for (int64_t c = 0; c < count; c += 32) {
        __m256 y[4];
        for (int64_t i = 0; i < 4; ++i) {
          const int64_t left = count - c - 8 * i;
          y[i] = left > 0 ? load_floats(x + begin + c + 8 * i, Lanes(left)) : _mm256_setzero_ps();
        }
        activate<kActivation>(y);
        for (int64_t i = 0; rows.gated && i < 4; ++i) {
          const int64_t left = count - c - 8 * i;
          if (left > 0) y[i] = _mm256_mul_ps(y[i], load_floats(x + rows.channels + begin + c + 8 * i, Lanes(left)));
        }
        for (int64_t i = 0; i < 4; ++i) _mm256_store_ps(block + c + 8 * i, y[i]);
      }
      const auto value = [&block](int64_t c, const Lanes&) { return _mm256_load_ps(block + c); };
      const Quantizer quantizer = {all.shift + begin, all.inverse_step + begin, all.code};
      quantize_row(value, count, quantizer, codes + (all.code.width == 1 ? begin / 8 : begin));
    }
    x += rows.row_floats();
    codes += code_row_bytes(all.code, rows.channels);
  }
}

}  // namespace

void quantize_x86_avx2(const QuantizeRows& rows) {
  switch (rows.activation) {
    case Activation::relu:
      return quantize_activated<Activation::relu>(rows);
    case Activation::gelu:
      return quantize_activated<Activation::gelu>(rows);
    case Activation::none:
      break;
  }
  quantize_plain(rows);
}

}  // namespace bebert
