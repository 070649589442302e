// SPDX-License-Identifier: Apache-2.0
// From the exact sums of a tile to floats or codes.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_EPILOGUE_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_EPILOGUE_H_

#include "../x86_avx512_arithmetic.h"
#include "x86_avx512_levels.h"
#include "x86_avx512_tile.h"

namespace bebert {
namespace {

// Channels from `channel` on, and tokens from `token` on: those of `sums`, rows of kChannelBlock.
struct Tile {
  int64_t channel, channels, token, tokens;
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

// a + b, rounded once, on the pipes of multiplication: those of addition are busy with conversions and comparisons.
inline __m512 add(__m512 a, __m512 b) { return _mm512_fmadd_ps(a, _mm512_set1_ps(1.0f), b); }

// Writes the codes of 16 channels.
template <bool kBits>
struct Writer {
  __m512 shift, inverse_step;
  CodeRange range;
  __mmask16 lanes;

  __m512 z(__m512 y) const { return _mm512_mul_ps(add(y, shift), inverse_step); }
  __m512 below(__m512 y) const { return _mm512_min_ps(z(y), range.high); }

  // Numbers below all of int32 become its least, and so the least level, as every number below `low`.
  void write_levels(__m512 below_y, uint8_t* codes) const {
    const __m512i level = _mm512_sub_epi32(_mm512_cvtps_epi32(below_y), range.low_value);
    store_bytes(codes, lanes, _mm512_max_epi32(level, _mm512_setzero_si512()));
  }

  void write(__m512 y, uint8_t* codes) const {
    if (kBits) {
      store_mask(codes, range.bits(lanes, z(y)));
    } else {
      write_levels(below(y), codes);
    }
  }

  // Writes the code of an estimate of y if every z within `margin` of its own has the same; false otherwise.
  bool write_if_certain(__m512 y, __m512 margin, uint8_t* codes) const {
    if (kBits) {
      const __m512 distance = _mm512_abs_ps(_mm512_sub_ps(z(y), range.middle));
      if (_mm512_mask_cmp_ps_mask(lanes, distance, margin, _CMP_NGT_UQ)) return false;
      store_mask(codes, range.bits(lanes, z(y)));
    } else {
      // Ties are 1/2 from the nearest integer.
      const __m512 clamped = below(y);
      const __m512 nearest = _mm512_roundscale_ps(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      const __m512 fraction = _mm512_abs_ps(_mm512_sub_ps(clamped, nearest));
      if (_mm512_mask_cmp_ps_mask(lanes, fraction, _mm512_sub_ps(_mm512_set1_ps(0.5f), margin), _CMP_NLT_UQ))
        return false;
      write_levels(clamped, codes);
    }
    return true;
  }
};

// How far from the true z that of GeluEstimate can be. Roundings of z, of at most 2^-24 each, count for less than
// kRoundings where they matter: where |z| is below 300. Estimates do not help where steps are tiny.
struct GeluMargin {
  __m512 base, slope;
  bool useful;

  explicit GeluMargin(__m512 inverse_step) {
    constexpr float kRoundings = 1e-4f;
    const __m512 gain = _mm512_abs_ps(inverse_step);
    base = _mm512_fmadd_ps(gain, _mm512_set1_ps(1.001f * GeluEstimate::kError), _mm512_set1_ps(kRoundings));
    slope = _mm512_mul_ps(gain, _mm512_set1_ps(1.001f * GeluEstimate::kRelativeError));
    useful = _mm512_cmp_ps_mask(gain, _mm512_set1_ps(1000.0f), _CMP_NLE_UQ) == 0;
  }
  __m512 at(const GeluEstimate& estimate) const { return _mm512_fmadd_ps(estimate.magnitude, slope, base); }
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
  for (int64_t c = 0; c < tile.channels && tile.channel + c < task.n; c += 16) {
    const int64_t channel = tile.channel + c;
    const __mmask16 mask = first_lanes(task.n - channel);
    const __m512 scale = _mm512_maskz_loadu_ps(mask, task.scale + channel);
    const __m512 bias = _mm512_maskz_loadu_ps(mask, task.bias + channel);
    const __m512 shift = _mm512_maskz_loadu_ps(mask, task.shift + channel);
    const __m512 inverse_step = _mm512_maskz_loadu_ps(mask, task.inverse_step + channel);
    const Writer<kBits> writer = {shift, inverse_step, range, mask};
    uint8_t* codes = task.codes_out + tile.token * row_bytes + (kBits ? channel / 8 : channel);
    const auto y = [&](int64_t t) {
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(tile.sums + t * kChannelBlock + c));
      return add(_mm512_mul_ps(sum, scale), bias);
    };
    const GeluMargin margin(inverse_step);
    if (kActivation == Activation::gelu && margin.useful) {
      // In two loops: the whole chain of one vector is longer than what the CPU looks ahead.
      __m512 estimates[kTokenBlock], margins[kTokenBlock];
      for (int64_t t = 0; t < tile.tokens; ++t) {
        const GeluEstimate estimate(y(t));
        estimates[t] = estimate.y;
        margins[t] = margin.at(estimate);
      }
      for (int64_t t = 0; t < tile.tokens; ++t) {
        if (writer.write_if_certain(estimates[t], margins[t], codes + t * row_bytes)) continue;
        writer.write(gelu(y(t)), codes + t * row_bytes);
      }
    } else {
      for (int64_t t = 0; t < tile.tokens; ++t) writer.write(activate<kActivation>(y(t)), codes + t * row_bytes);
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

inline Epilogue codes_epilogue(const PackedBinaryMatMulTask& task) {
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

// Levels by the integer sum alone, where their thresholds are known.
template <int kLevels, bool kFalls>
void store_levels(const PackedBinaryMatMulTask& task, const Tile& tile) {
  const LevelThresholds* blocks = static_cast<const LevelThresholds*>(task.levels);
  for (int64_t c = 0; c < kChannelBlock && tile.channel + c < task.n; c += kLevelChannels) {
    const int64_t channel = tile.channel + c;
    const LevelThresholds& block = blocks[channel / kLevelChannels];
    if (block.excluded()) {
      codes_epilogue(task)(task, {channel, kLevelChannels, tile.token, tile.tokens, tile.sums + c});
      continue;
    }
    const LevelSearch<kLevels, kFalls> search(block);
    const int32_t* sums = tile.sums + c;
    uint8_t* codes = task.codes_out + tile.token * task.n + channel;
    const int64_t left = task.n - channel;
    const __mmask32 lanes = left >= kLevelChannels ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
    for (int64_t t = 0; t < tile.tokens; ++t, sums += kChannelBlock, codes += task.n) {
      const __m256i levels = search.levels(sums);
      // Masked stores are slow on Zen 4, and rarely needed.
      if (lanes == ~__mmask32{0}) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), levels);
      } else {
        _mm256_mask_storeu_epi8(codes, lanes, levels);
      }
    }
  }
}

inline Epilogue choose_epilogue(const PackedBinaryMatMulTask& task) {
  if (task.y) return store_floats;
  if (task.zero_begin) return store_bits;
  if (task.levels) {
    const bool falls = task.activation == Activation::gelu;
    if (task.output.high - task.output.low < 4) return falls ? store_levels<4, true> : store_levels<4, false>;
    return falls ? store_levels<16, true> : store_levels<16, false>;
  }
  return codes_epilogue(task);
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_EPILOGUE_H_
