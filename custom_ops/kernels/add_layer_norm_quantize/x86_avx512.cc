// SPDX-License-Identifier: Apache-2.0
#include "../x86_avx512_rows.h"
#include "add_layer_norm_quantize.h"

namespace bebert {

namespace {

struct Statistics {
  float mean, rstd;
};

// Sums of v and of v * v in binary64. The square of a float is exact there, so that a fused multiply-add rounds as a
// product and a sum do. It is used for the plain sum too: the units of addition are busy with conversions.
struct Sums {
  __m512d sum = _mm512_setzero_pd(), square = _mm512_setzero_pd();

  void add(__m256 v) {
    const __m512d wide = _mm512_cvtps_pd(v);
    sum = _mm512_fmadd_pd(wide, _mm512_set1_pd(1.0), sum);
    square = _mm512_fmadd_pd(wide, wide, square);
  }
};

Statistics finish(Sums first, Sums second, double count, float epsilon) {
  const double mean = _mm512_reduce_add_pd(_mm512_add_pd(first.sum, second.sum)) / count;
  const double square = _mm512_reduce_add_pd(_mm512_add_pd(first.square, second.square)) / count;
  const double variance = square - mean * mean;
  const __m128d radicand = _mm_set_sd((variance > 0 ? variance : 0) + static_cast<double>(epsilon));
  const double rstd = 1.0 / _mm_cvtsd_f64(_mm_sqrt_sd(radicand, radicand));
  return {static_cast<float>(mean), static_cast<float>(rstd)};
}

// y = x + residual, and the statistics of each row.
template <int kRows>
void add_and_measure(const AddLayerNormQuantizeRows& rows, int64_t token, Statistics (&statistics)[kRows]) {
  const int64_t channels = rows.channels;
  const float *x = rows.x + token * channels, *residual = rows.residual + token * channels;
  float* y = rows.y + token * channels;
  Sums sums[kRows][2];
  const auto step = [&](int64_t c, __mmask16 lanes) {
    BEBERT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int64_t i = r * channels + c;
      const __m512 v = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, x + i), _mm512_maskz_loadu_ps(lanes, residual + i));
      store_floats(y + i, lanes, v);
      sums[r][0].add(_mm512_castps512_ps256(v));
      sums[r][1].add(_mm512_extractf32x8_ps(v, 1));
    }
  };
  int64_t c = 0;
  for (; c + 16 <= channels; c += 16) step(c, 0xffff);
  if (c < channels) step(c, first_lanes(channels - c));
  BEBERT_UNROLL
  for (int r = 0; r < kRows; ++r)
    statistics[r] = finish(sums[r][0], sums[r][1], static_cast<double>(channels), rows.epsilon);
}

template <int kRows>
void normalize(const AddLayerNormQuantizeRows& rows, const CodeRange& range, int64_t token,
               const Statistics (&statistics)[kRows]) {
  const int64_t channels = rows.channels;
  float* y = rows.y + token * channels;
  __m512 mean[kRows], rstd[kRows];
  for (int r = 0; r < kRows; ++r) {
    mean[r] = _mm512_set1_ps(statistics[r].mean);
    rstd[r] = _mm512_set1_ps(statistics[r].rstd);
  }
  const int64_t row_bytes = code_row_bytes(rows.quantizer.code, channels);
  uint8_t* codes = rows.codes + token * row_bytes;
  quantize_rows<kRows>(
      rows.quantizer, range, channels, codes, row_bytes, [&](int64_t c, __mmask16 lanes, __m512(&v)[kRows]) {
        __m512 gamma = _mm512_maskz_loadu_ps(lanes, rows.gamma + c), beta = _mm512_maskz_loadu_ps(lanes, rows.beta + c);
        BEBERT_KEEP(gamma);
        BEBERT_KEEP(beta);
        BEBERT_UNROLL
        for (int r = 0; r < kRows; ++r) {
          float* row = y + r * channels + c;
          const __m512 centred = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, row), mean[r]);
          v[r] = _mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(centred, rstd[r]), gamma), beta);
          store_floats(row, lanes, v[r]);
        }
      });
}

}  // namespace

// The statistics of the next rows are found before these are normalized, so that nothing waits for a division.
void add_layer_norm_quantize_x86_avx512(const AddLayerNormQuantizeRows& rows) {
  const CodeRange range(rows.quantizer.code);
  constexpr int kRows = 2;
  const int64_t end = rows.tokens / kRows * kRows;
  Statistics next[kRows] = {};
  if (end > 0) add_and_measure(rows, 0, next);
  for (int64_t token = 0; token < end; token += kRows) {
    const Statistics found[kRows] = {next[0], next[1]};
    if (token + kRows < end) add_and_measure(rows, token + kRows, next);
    normalize(rows, range, token, found);
  }
  if (end == rows.tokens) return;
  Statistics last[1];
  add_and_measure(rows, end, last);
  normalize(rows, range, end, last);
}

}  // namespace bebert
