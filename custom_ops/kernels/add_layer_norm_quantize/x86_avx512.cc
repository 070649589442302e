// SPDX-License-Identifier: Apache-2.0
#include "../x86_avx512_arithmetic.h"
#include "add_layer_norm_quantize.h"

namespace bebert {

namespace {

struct Statistics {
  float mean, rstd;
};

// y = x + residual, and the statistics of that row. The square of a float is exact in binary64, so that a fused
// multiply-add rounds as a product and a sum do.
Statistics add_and_measure(const float* x, const float* residual, int64_t channels, float epsilon, float* y) {
  __m512d sums[2] = {_mm512_setzero_pd(), _mm512_setzero_pd()};
  __m512d squares[2] = {_mm512_setzero_pd(), _mm512_setzero_pd()};
  for (int64_t c = 0; c < channels; c += 16) {
    const __mmask16 lanes = first_lanes(channels - c);
    const __m512 v = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, x + c), _mm512_maskz_loadu_ps(lanes, residual + c));
    store_floats(y + c, lanes, v);
    const __m512d halves[2] = {_mm512_cvtps_pd(_mm512_castps512_ps256(v)),
                               _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))};
    for (int i = 0; i < 2; ++i) {
      sums[i] = _mm512_add_pd(sums[i], halves[i]);
      squares[i] = _mm512_fmadd_pd(halves[i], halves[i], squares[i]);
    }
  }
  const double count = static_cast<double>(channels);
  const double mean = _mm512_reduce_add_pd(_mm512_add_pd(sums[0], sums[1])) / count;
  const double square = _mm512_reduce_add_pd(_mm512_add_pd(squares[0], squares[1])) / count;
  const double variance = square - mean * mean;
  const __m128d radicand = _mm_set_sd((variance > 0 ? variance : 0) + static_cast<double>(epsilon));
  const double rstd = 1.0 / _mm_cvtsd_f64(_mm_sqrt_sd(radicand, radicand));
  return {static_cast<float>(mean), static_cast<float>(rstd)};
}

}  // namespace

void add_layer_norm_quantize_x86_avx512(const AddLayerNormQuantizeRows& rows) {
  const int64_t channels = rows.channels;
  const CodeRange range(rows.quantizer.code);
  const float *x = rows.x, *residual = rows.residual;
  float* y = rows.y;
  uint8_t* codes = rows.codes;
  for (int64_t t = 0; t < rows.tokens; ++t) {
    const Statistics row = add_and_measure(x, residual, channels, rows.epsilon, y);
    const __m512 mean = _mm512_set1_ps(row.mean), rstd = _mm512_set1_ps(row.rstd);
    for (int64_t c = 0; c < channels; c += 16) {
      const __mmask16 lanes = first_lanes(channels - c);
      const __m512 gamma = _mm512_maskz_loadu_ps(lanes, rows.gamma + c);
      const __m512 beta = _mm512_maskz_loadu_ps(lanes, rows.beta + c);
      const __m512 centred = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, y + c), mean);
      const __m512 v = _mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(centred, rstd), gamma), beta);
      store_floats(y + c, lanes, v);
      quantize_lanes(v, rows.quantizer, range, c, lanes, codes);
    }
    clear_padding(rows.quantizer.code, channels, codes);
    x += channels;
    residual += channels;
    y += channels;
    codes += code_row_bytes(rows.quantizer.code, channels);
  }
}

}  // namespace bebert
