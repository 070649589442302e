// SPDX-License-Identifier: Apache-2.0
#include "../arm64_neon_arithmetic.h"
#include "add_layer_norm_quantize.h"

namespace bebert {

namespace {

struct Statistics {
  float mean, rstd;
};

// y = x + residual, and the statistics of that row. The square of a float is exact in binary64, so that a fused
// multiply-add rounds as a product and a sum do. Four sums of each: an addition takes up to four cycles.
Statistics add_and_measure(const float* x, const float* residual, int64_t channels, float epsilon, float* y) {
  float64x2_t sums[4], squares[4];
  for (int i = 0; i < 4; ++i) sums[i] = squares[i] = vdupq_n_f64(0);
  for_each_sixteen(channels, [&](int64_t c, int64_t count) {
    const Floats a = load_floats(x + c, count), b = load_floats(residual + c, count);
    Floats v;
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) {
      v.v[i] = vaddq_f32(a.v[i], b.v[i]);
      const float64x2_t halves[2] = {vcvt_f64_f32(vget_low_f32(v.v[i])), vcvt_high_f64_f32(v.v[i])};
      for (int h = 0; h < 2; ++h) {
        const int s = i % 2 * 2 + h;
        sums[s] = vaddq_f64(sums[s], halves[h]);
        squares[s] = vfmaq_f64(squares[s], halves[h], halves[h]);
      }
    }
    store_floats(y + c, count, v);
  });
  const auto total = [](const float64x2_t(&s)[4]) {
    return vaddvq_f64(vaddq_f64(vaddq_f64(s[0], s[1]), vaddq_f64(s[2], s[3])));
  };
  const double count = static_cast<double>(channels);
  const double mean = total(sums) / count;
  const double variance = total(squares) / count - mean * mean;
  const double radicand = (variance > 0 ? variance : 0) + static_cast<double>(epsilon);
  const double rstd = 1.0 / vgetq_lane_f64(vsqrtq_f64(vdupq_n_f64(radicand)), 0);
  return {static_cast<float>(mean), static_cast<float>(rstd)};
}

}  // namespace

void add_layer_norm_quantize_arm64_neon(const AddLayerNormQuantizeRows& rows) {
  const int64_t channels = rows.channels;
  const CodeRange range(rows.quantizer.code);
  const float *x = rows.x, *residual = rows.residual;
  float* y = rows.y;
  uint8_t* codes = rows.codes;
  for (int64_t t = 0; t < rows.tokens; ++t) {
    const Statistics row = add_and_measure(x, residual, channels, rows.epsilon, y);
    const float32x4_t mean = vdupq_n_f32(row.mean), rstd = vdupq_n_f32(row.rstd);
    for_each_sixteen(channels, [&](int64_t c, int64_t count) {
      const Floats gamma = load_floats(rows.gamma + c, count), beta = load_floats(rows.beta + c, count);
      Floats v = load_floats(y + c, count);
      for (int i = 0; i < 4; ++i) {
        v.v[i] = vmulq_f32(vmulq_f32(vsubq_f32(v.v[i], mean), rstd), gamma.v[i]);
        v.v[i] = vaddq_f32(v.v[i], beta.v[i]);
      }
      store_floats(y + c, count, v);
      quantize_lanes(v, rows.quantizer, range, c, count, codes);
    });
    clear_padding(rows.quantizer.code, channels, codes);
    x += channels;
    residual += channels;
    y += channels;
    codes += code_row_bytes(rows.quantizer.code, channels);
  }
}

}  // namespace bebert
