// SPDX-License-Identifier: Apache-2.0
#include "../x86_avx2_arithmetic.h"
#include "add_layer_norm_quantize.h"

namespace bebert {

namespace {

struct Statistics {
  float mean, rstd;
};

inline double sum_doubles(__m256d a, __m256d b) {
  const __m256d v = _mm256_add_pd(a, b);
  const __m128d halves = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(halves, _mm_unpackhi_pd(halves, halves)));
}

// y = x + residual, and the statistics of that row.
Statistics add_and_measure(const float* x, const float* residual, int64_t channels, float epsilon, float* y) {
  __m256d sums[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
  __m256d squares[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
  const auto add = [&](int64_t c, const Lanes& lanes) {
    const __m256 v = _mm256_add_ps(load_floats(x + c, lanes), load_floats(residual + c, lanes));
    store_floats(y + c, lanes, v);
    const __m256d halves[2] = {_mm256_cvtps_pd(_mm256_castps256_ps128(v)),
                               _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))};
    for (int i = 0; i < 2; ++i) {
      sums[i] = _mm256_add_pd(sums[i], halves[i]);
      squares[i] = _mm256_add_pd(squares[i], _mm256_mul_pd(halves[i], halves[i]));
    }
  };
  int64_t c = 0;
  for (const Lanes all(8); c + 8 <= channels; c += 8) add(c, all);
  if (c < channels) add(c, Lanes(channels - c));
  const double count = static_cast<double>(channels);
  const double mean = sum_doubles(sums[0], sums[1]) / count;
  const double variance = sum_doubles(squares[0], squares[1]) / count - mean * mean;
  const __m128d radicand = _mm_set_sd((variance > 0 ? variance : 0) + static_cast<double>(epsilon));
  const double rstd = 1.0 / _mm_cvtsd_f64(_mm_sqrt_sd(radicand, radicand));
  return {static_cast<float>(mean), static_cast<float>(rstd)};
}

}  // namespace

void add_layer_norm_quantize_x86_avx2(const AddLayerNormQuantizeRows& rows) {
  const int64_t channels = rows.channels;
  const float *x = rows.x, *residual = rows.residual;
  float* y = rows.y;
  uint8_t* codes = rows.codes;
  for (int64_t t = 0; t < rows.tokens; ++t) {
    const Statistics row = add_and_measure(x, residual, channels, rows.epsilon, y);
    const __m256 mean = _mm256_set1_ps(row.mean), rstd = _mm256_set1_ps(row.rstd);
    const auto normalize = [&](int64_t c, const Lanes& lanes) {
      const __m256 centred = _mm256_sub_ps(load_floats(y + c, lanes), mean);
      const __m256 scaled = _mm256_mul_ps(_mm256_mul_ps(centred, rstd), load_floats(rows.gamma + c, lanes));
      const __m256 v = _mm256_add_ps(scaled, load_floats(rows.beta + c, lanes));
      store_floats(y + c, lanes, v);
      return v;
    };
    quantize_row(normalize, channels, rows.quantizer, codes);
    x += channels;
    residual += channels;
    y += channels;
    codes += code_row_bytes(rows.quantizer.code, channels);
  }
}

}  // namespace bebert
