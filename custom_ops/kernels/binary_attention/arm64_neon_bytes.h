// SPDX-License-Identifier: Apache-2.0
// Attention on signed bytes: what does not depend on how bytes are multiplied. Products are of kRows rows (queries, or
// probabilities) and of columns (keys, or channels of the values) in blocks of 16:
//
//   value = byte + byte_offset, so that a sum of products of values is the sum of products of bytes, plus each side's
//   offset times the sum of the other side's bytes, plus length * offset * offset.
//
// Sums of up to kMaximumLength products of two bytes fit an int32.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_BYTES_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_BYTES_H_

#include <math.h>

#include "arm64_neon_codes.h"

namespace bebert {
namespace {

constexpr int64_t kColumns = 16;

inline int32_t sum_bytes(const uint8_t* bytes, int64_t count) {
  int32_t sum = 0;
  for (int64_t i = 0; i < count; i += 16) {
    sum += vaddlvq_s8(vreinterpretq_s8_u8(vld1q_u8(bytes + i)));
  }
  return sum;
}

// out[j] = factor * (sum of row j), for rows of `stride` bytes.
inline void sum_rows(const uint8_t* rows, int64_t count, int64_t stride, int32_t factor, int32_t* out) {
  for (int64_t j = 0; j < count; ++j) out[j] = factor == 0 ? 0 : factor * sum_bytes(rows + j * stride, stride);
}

// out[d] = factor * (sum of column d of the rows). `stride` is a multiple of 16.
inline void sum_columns(const uint8_t* rows, int64_t count, int64_t stride, int32_t factor, int32_t* out) {
  for (int64_t d = 0; d < stride; d += 4) vst1q_s32(out + d, vdupq_n_s32(0));
  for (int64_t j = 0; factor != 0 && j < count; ++j) {
    for (int64_t d = 0; d < stride; d += 8) {
      const int16x8_t wide = vmovl_s8(vreinterpret_s8_u8(vld1_u8(rows + j * stride + d)));
      vst1q_s32(out + d, vaddw_s16(vld1q_s32(out + d), vget_low_s16(wide)));
      vst1q_s32(out + d + 4, vaddw_high_s16(vld1q_s32(out + d + 4), wide));
    }
  }
  for (int64_t d = 0; d < stride; d += 4) vst1q_s32(out + d, vmulq_n_s32(vld1q_s32(out + d), factor));
}

// Scores of a query, overwritten by kRounding plus their exponentials; returns the sum of the exponentials, which at
// most kMaximumLength of 2^15 keep below 2^31. keys > 0; scores are padded to whole vectors of 16.
inline uint32_t exponentiate(int32_t* scores, int64_t keys, float score_scale) {
  const int64_t padded = round_up(keys, 16);
  for (int64_t j = keys; j < padded; ++j) scores[j] = scores[0];
  int32x4_t most[2] = {vdupq_n_s32(scores[0]), vdupq_n_s32(scores[0])};
  for (int64_t j = 0; j < padded; j += 16) {
    for (int i = 0; i < 4; ++i) most[i % 2] = vmaxq_s32(most[i % 2], vld1q_s32(scores + j + 4 * i));
  }
  const int32x4_t largest = vdupq_n_s32(vmaxvq_s32(vmaxq_s32(most[0], most[1])));

  float* exponentials = reinterpret_cast<float*>(scores);
  uint32x4_t sums[4];
  for (uint32x4_t& sum : sums) sum = vdupq_n_u32(0);
  for (int64_t j = 0; j < padded; j += 16) {
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float32x4_t difference = vcvtq_f32_s32(vsubq_s32(vld1q_s32(scores + j + 4 * i), largest));
      const float32x4_t e = fixed_exp_and_rounding(vmulq_n_f32(difference, score_scale));
      vst1q_f32(exponentials + j + 4 * i, e);
      sums[i] = vaddq_u32(sums[i], vreinterpretq_u32_f32(e));
    }
  }
  // Modulo 2^32: the bits of kRounding are in every term, and those of keys after the last go.
  uint32_t sum = vaddvq_u32(vaddq_u32(vaddq_u32(sums[0], sums[1]), vaddq_u32(sums[2], sums[3])));
  sum -= static_cast<uint32_t>(keys) * static_cast<uint32_t>(kRoundingBits);
  for (int64_t j = keys; j < padded; ++j) {
    uint32_t bits;
    memcpy(&bits, exponentials + j, sizeof(bits));
    sum -= bits;
  }
  return sum;
}

// The same with a bias for each key, of which there are as many as padded scores; scores lack `constant`.
inline uint32_t exponentiate_biased(int32_t* scores, int64_t keys, int32_t constant, float score_scale,
                                    const float* bias) {
  const int64_t padded = round_up(keys, 16);
  float* exponentials = reinterpret_cast<float*>(scores);
  for (int64_t j = 0; j < padded; j += 4) {
    const float32x4_t dot = vcvtq_f32_s32(vaddq_s32(vld1q_s32(scores + j), vdupq_n_s32(constant)));
    vst1q_f32(exponentials + j, vaddq_f32(vmulq_n_f32(dot, score_scale), vld1q_f32(bias + j)));
  }
  for (int64_t j = keys; j < padded; ++j) exponentials[j] = -INFINITY;
  float32x4_t most = vld1q_f32(exponentials);
  for (int64_t j = 4; j < padded; j += 4) most = vmaxq_f32(most, vld1q_f32(exponentials + j));
  const float32x4_t largest = vdupq_n_f32(vmaxvq_f32(most));
  uint32x4_t sums = vdupq_n_u32(0);
  for (int64_t j = 0; j < padded; j += 16) {
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) {
      float* to = exponentials + j + 4 * i;
      const float32x4_t e = fixed_exp_and_rounding(vsubq_f32(vld1q_f32(to), largest));  // of -infinity: 0
      vst1q_f32(to, e);
      sums = vaddq_u32(sums, vreinterpretq_u32_f32(e));
    }
  }
  return vaddvq_u32(sums) - static_cast<uint32_t>(padded) * static_cast<uint32_t>(kRoundingBits);
}

// Exponentials of a query, plus kRounding, to probabilities as bytes; zero for keys after the last. Both rows are
// padded to whole vectors of 16.
inline void store_quotients(const float* exponentials, int64_t keys, uint32_t sum, float probability_inverse_step,
                            const ProbabilityBytes& probability, uint8_t* row) {
  const int64_t padded = round_up(keys, 16);
  const float32x4_t r = vdupq_n_f32(probability_inverse_step / static_cast<float>(sum));

  const CodeRange range(probability.code);
  const uint8x16_t add = vdupq_n_u8(probability.add);
  const uint8x16_t one = vdupq_n_u8(probability.one), zero = vdupq_n_u8(probability.zero);
  for (int64_t j = 0; j < padded; j += 16) {
    Floats z;
    for (int i = 0; i < 4; ++i) {
      z.v[i] = vmulq_f32(vsubq_f32(vld1q_f32(exponentials + j + 4 * i), vdupq_n_f32(kRounding)), r);
    }
    uint8x16_t bytes =
        probability.code.width == 8 ? vaddq_u8(range.levels(z), add) : vbslq_u8(range.bits(z), one, zero);
    if (keys - j < 16) bytes = vandq_u8(bytes, first_lanes(keys - j));
    vst1q_u8(row + j, bytes);
  }
}

// Scores without softmax to probabilities: `one` where score + constant is positive, else zero.
inline void boolean_bytes(const int32_t* scores, int64_t keys, int32_t constant, uint8_t one, uint8_t* row) {
  for (int64_t j = 0; j < keys; j += 16) {
    uint32x4_t positive[4];
    for (int i = 0; i < 4; ++i) {
      positive[i] = vcgtzq_s32(vaddq_s32(vld1q_s32(scores + j + 4 * i), vdupq_n_s32(constant)));
    }
    uint8x16_t mask = narrow(positive[0], positive[1], positive[2], positive[3]);
    if (keys - j < 16) mask = vandq_u8(mask, first_lanes(keys - j));
    vst1q_u8(row + j, vandq_u8(mask, vdupq_n_u8(one)));
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_BYTES_H_
