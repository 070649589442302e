// SPDX-License-Identifier: Apache-2.0
// From the exact sums of a tile to floats or codes.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_EPILOGUE_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_EPILOGUE_H_

#include "../x86_avx512_arithmetic.h"
#include "x86_avx512_tile.h"

namespace bebert {
namespace {

template <Activation kActivation>
inline __m512 activate(__m512 y) {
  if (kActivation == Activation::relu) return _mm512_max_ps(y, _mm512_setzero_ps());
  if (kActivation == Activation::gelu) return gelu(y);
  return y;
}

// Writes 16 channels of all tokens; `channel` and `sums` are at the first of them.
void store_sums(const PackedBinaryMatMulTask& task, int64_t channel, const int32_t* sums) {
  const int64_t left = task.n - channel;
  if (left <= 0) return;
  const __mmask16 mask = first_lanes(left);
  const __m512 scale = _mm512_maskz_loadu_ps(mask, task.scale + channel);
  const __m512 bias = _mm512_maskz_loadu_ps(mask, task.bias + channel);
  float* y = task.y + channel;
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock, y += task.n) {
    const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums));
    store_floats(y, mask, _mm512_add_ps(_mm512_mul_ps(sum, scale), bias));
  }
}

// Writes the codes of 16 channels.
template <bool kBits>
struct Writer {
  __m512 shift, inverse_step;
  CodeRange range;
  __mmask16 lanes;

  __m512 z(__m512 y) const { return _mm512_mul_ps(_mm512_add_ps(y, shift), inverse_step); }

  void write(__m512 y, uint8_t* codes) const {
    if (kBits) {
      store_mask(codes, range.bits(lanes, z(y)));
    } else {
      store_bytes(codes, lanes, range.levels(z(y)));
    }
  }

  // False, and nothing is written, if any of the codes of the two differ.
  bool write_if_same(__m512 low, __m512 high, uint8_t* codes) const {
    if (kBits) {
      const __mmask16 bits = range.bits(lanes, z(low));
      if (bits != range.bits(lanes, z(high))) return false;
      store_mask(codes, bits);
    } else {
      const __m512i levels = range.levels(z(low));
      if (_mm512_mask_cmpneq_epi32_mask(lanes, levels, range.levels(z(high)))) return false;
      store_bytes(codes, lanes, levels);
    }
    return true;
  }
};

template <Activation kActivation, bool kBits>
void store_codes(const PackedBinaryMatMulTask& task, int64_t channel, const int32_t* sums) {
  const int64_t row_bytes = code_row_bytes(task.output, task.n);
  const int64_t left = task.n - channel;
  uint8_t* codes = task.codes_out + (kBits ? channel / 8 : channel);
  if (left <= 0) {  // bits after the last channel are padding
    for (int64_t t = 0; kBits && t < task.tokens; ++t) store_mask(codes + t * row_bytes, 0);
    return;
  }
  const __mmask16 mask = first_lanes(left);
  const __m512 scale = _mm512_maskz_loadu_ps(mask, task.scale + channel);
  const __m512 bias = _mm512_maskz_loadu_ps(mask, task.bias + channel);
  const __m512 shift = _mm512_maskz_loadu_ps(mask, task.shift + channel);
  const __m512 inverse_step = _mm512_maskz_loadu_ps(mask, task.inverse_step + channel);
  const Writer<kBits> writer = {shift, inverse_step, CodeRange(task.output), mask};
  // Where the bounds have the same code, so has what is between: every operation from y to its code is monotonic.
  const __mmask16 steep = _mm512_cmp_ps_mask(_mm512_abs_ps(inverse_step), _mm512_set1_ps(1000.0f), _CMP_GT_OQ);
  const bool by_bounds = kActivation == Activation::gelu && steep == 0;
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock, codes += row_bytes) {
    const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums));
    const __m512 y = _mm512_add_ps(_mm512_mul_ps(sum, scale), bias);
    if (by_bounds) {
      const GeluBounds bounds(y);
      if (writer.write_if_same(bounds.low, bounds.high, codes)) continue;
    }
    writer.write(activate<kActivation>(y), codes);
  }
}

// Bits by the integer sum alone.
void store_bits(const PackedBinaryMatMulTask& task, int64_t channel, const int32_t* sums) {
  const int64_t row_bytes = packed_row_bytes(task.n);
  const __mmask16 lanes = channel < task.n ? first_lanes(task.n - channel) : __mmask16{0};
  const __m512i begin = _mm512_maskz_loadu_epi32(lanes, task.zero_begin + channel);
  const __m512i length = _mm512_maskz_loadu_epi32(lanes, task.zero_length + channel);
  uint8_t* codes = task.codes_out + channel / 8;
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock, codes += row_bytes) {
    const __m512i distance = _mm512_sub_epi32(_mm512_load_si512(sums), begin);
    store_mask(codes, _mm512_mask_cmpgt_epu32_mask(lanes, distance, length));
  }
}

using Epilogue = void (*)(const PackedBinaryMatMulTask&, int64_t channel, const int32_t* sums);

inline Epilogue choose_epilogue(const PackedBinaryMatMulTask& task) {
  if (task.y) return store_sums;
  if (task.zero_begin) return store_bits;
  const bool bits = task.output.width == 1;
  switch (task.activation) {
    case Activation::relu:
      return bits ? store_codes<Activation::relu, true> : store_codes<Activation::relu, false>;
    case Activation::gelu:
      return bits ? store_codes<Activation::gelu, true> : store_codes<Activation::gelu, false>;
    case Activation::none:
      break;
  }
  return bits ? store_codes<Activation::none, true> : store_codes<Activation::none, false>;
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_EPILOGUE_H_
