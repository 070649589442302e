// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "../arithmetic.h"
#include "add_layer_norm_quantize.h"

namespace bebert {

namespace {

// Independent partial sums: a single one would wait for each addition.
constexpr int kSums = 8;

// y = x + residual; the mean and the reciprocal standard deviation of that row.
void add_and_measure(const float* x, const float* residual, int64_t channels, float epsilon, float* y, float* mean,
                     float* rstd) {
  double sums[kSums] = {}, squares[kSums] = {};
  int64_t c = 0;
  for (; c + kSums <= channels; c += kSums) {
    for (int i = 0; i < kSums; ++i) {
      const float v = x[c + i] + residual[c + i];
      y[c + i] = v;
      sums[i] += static_cast<double>(v);
      squares[i] += static_cast<double>(v) * static_cast<double>(v);
    }
  }
  for (; c < channels; ++c) {
    const float v = x[c] + residual[c];
    y[c] = v;
    sums[0] += static_cast<double>(v);
    squares[0] += static_cast<double>(v) * static_cast<double>(v);
  }
  double sum = 0, square_sum = 0;
  for (int i = 0; i < kSums; ++i) {
    sum += sums[i];
    square_sum += squares[i];
  }
  const double count = static_cast<double>(channels);
  const double exact_mean = sum / count;
  const double variance = square_sum / count - exact_mean * exact_mean;
  *mean = static_cast<float>(exact_mean);
  *rstd = static_cast<float>(1.0 / sqrt((variance > 0 ? variance : 0) + static_cast<double>(epsilon)));
}

}  // namespace

void add_layer_norm_quantize_scalar(const AddLayerNormQuantizeRows& rows) {
  const int64_t channels = rows.channels;
  const int64_t row_bytes = code_row_bytes(rows.quantizer.code, channels);
  for (int64_t t = 0; t < rows.tokens; ++t) {
    float* y = rows.y + t * channels;
    float mean, rstd;
    add_and_measure(rows.x + t * channels, rows.residual + t * channels, channels, rows.epsilon, y, &mean, &rstd);
    for (int64_t c = 0; c < channels; ++c) y[c] = (y[c] - mean) * rstd * rows.gamma[c] + rows.beta[c];
    quantize_row(y, channels, rows.quantizer, rows.codes + t * row_bytes);
  }
}

}  // namespace bebert
