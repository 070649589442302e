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

// Channels from `channel` on, and tokens from `token` on: those of `sums`, rows of kChannelBlock.
struct Tile {
  int64_t channel, token, tokens;
  const int32_t* sums;
};

void store_floats(const PackedBinaryMatMulTask& task, const Tile& tile) {
  for (int64_t c = 0; c < kChannelBlock && tile.channel + c < task.n; c += 16) {
    const int64_t channel = tile.channel + c;
    const __mmask16 mask = first_lanes(task.n - channel);
    const __m512 scale = _mm512_maskz_loadu_ps(mask, task.scale + channel);
    const __m512 bias = _mm512_maskz_loadu_ps(mask, task.bias + channel);
    const int32_t* sums = tile.sums + c;
    float* y = task.y + tile.token * task.n + channel;
    for (int64_t t = 0; t < tile.tokens; ++t, sums += kChannelBlock, y += task.n) {
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums));
      store_floats(y, mask, _mm512_add_ps(_mm512_mul_ps(sum, scale), bias));
    }
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

// The bits of the block beyond those that store_codes wrote.
inline void clear_padding(const PackedBinaryMatMulTask& task, const Tile& tile) {
  for (int64_t channel = (task.n + 15) / 16 * 16; channel < tile.channel + kChannelBlock; channel += 16) {
    for (int64_t t = tile.token; t < tile.token + tile.tokens; ++t) {
      store_mask(task.codes_out + t * packed_row_bytes(task.n) + channel / 8, 0);
    }
  }
}

template <Activation kActivation, bool kBits>
void store_codes(const PackedBinaryMatMulTask& task, const Tile& tile) {
  const int64_t row_bytes = code_row_bytes(task.output, task.n);
  const CodeRange range(task.output);
  for (int64_t c = 0; c < kChannelBlock && tile.channel + c < task.n; c += 16) {
    const int64_t channel = tile.channel + c;
    const __mmask16 mask = first_lanes(task.n - channel);
    const __m512 scale = _mm512_maskz_loadu_ps(mask, task.scale + channel);
    const __m512 bias = _mm512_maskz_loadu_ps(mask, task.bias + channel);
    const __m512 shift = _mm512_maskz_loadu_ps(mask, task.shift + channel);
    const __m512 inverse_step = _mm512_maskz_loadu_ps(mask, task.inverse_step + channel);
    const Writer<kBits> writer = {shift, inverse_step, range, mask};
    // Where the bounds have the same code, so has what is between: every operation from y to its code is monotonic.
    const __mmask16 steep = _mm512_cmp_ps_mask(_mm512_abs_ps(inverse_step), _mm512_set1_ps(1000.0f), _CMP_GT_OQ);
    const bool by_bounds = kActivation == Activation::gelu && steep == 0;
    const int32_t* sums = tile.sums + c;
    uint8_t* codes = task.codes_out + tile.token * row_bytes + (kBits ? channel / 8 : channel);
    for (int64_t t = 0; t < tile.tokens; ++t, sums += kChannelBlock, codes += row_bytes) {
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums));
      const __m512 y = _mm512_add_ps(_mm512_mul_ps(sum, scale), bias);
      if (by_bounds) {
        const GeluBounds bounds(y);
        if (writer.write_if_same(bounds.low, bounds.high, codes)) continue;
      }
      writer.write(activate<kActivation>(y), codes);
    }
  }
  if (kBits) clear_padding(task, tile);
}

// Bits by the integer sum alone.
void store_bits(const PackedBinaryMatMulTask& task, const Tile& tile) {
  const int64_t row_bytes = packed_row_bytes(task.n);
  uint8_t* codes = task.codes_out + tile.token * row_bytes + tile.channel / 8;
  __m512i begin[kVectors], length[kVectors];
  __mmask16 lanes[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int64_t left = task.n - tile.channel - 16 * v;
    lanes[v] = left > 0 ? first_lanes(left) : __mmask16{0};
    begin[v] = _mm512_maskz_loadu_epi32(lanes[v], task.zero_begin + tile.channel + 16 * v);
    length[v] = _mm512_maskz_loadu_epi32(lanes[v], task.zero_length + tile.channel + 16 * v);
  }
  const int32_t* sums = tile.sums;
  for (int64_t t = 0; t < tile.tokens; ++t, sums += kChannelBlock, codes += row_bytes) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const __m512i distance = _mm512_sub_epi32(_mm512_load_si512(sums + 16 * v), begin[v]);
      store_mask(codes + 2 * v, _mm512_mask_cmpgt_epu32_mask(lanes[v], distance, length[v]));
    }
  }
}

// Outputs of a tile whose channels all exist.
struct ToFloats {
  const float *scale, *bias;
  float* y;
  int64_t n;
  void write(int t, int v, __m512i sum) const {
    const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(scale + 16 * v));
    _mm512_storeu_ps(y + t * n + 16 * v, _mm512_add_ps(product, _mm512_loadu_ps(bias + 16 * v)));
  }
};

struct ToBits {
  const int32_t* begin;
  const uint32_t* length;
  uint8_t* codes;
  int64_t row_bytes;
  void write(int t, int v, __m512i sum) const {
    const __m512i distance = _mm512_sub_epi32(sum, _mm512_loadu_si512(begin + 16 * v));
    store_mask(codes + t * row_bytes + 2 * v, _mm512_cmpgt_epu32_mask(distance, _mm512_loadu_si512(length + 16 * v)));
  }
};

using Epilogue = void (*)(const PackedBinaryMatMulTask&, const Tile&);

inline Epilogue choose_epilogue(const PackedBinaryMatMulTask& task) {
  if (task.y) return store_floats;
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
