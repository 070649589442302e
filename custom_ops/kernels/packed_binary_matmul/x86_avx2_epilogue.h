// SPDX-License-Identifier: Apache-2.0
// From the exact sums of a block of channels to floats or codes.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_EPILOGUE_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_EPILOGUE_H_

#include "../x86_avx2_arithmetic.h"
#include "x86_avx2_tile.h"

namespace bebert {
namespace {

// The parameters of one block of channels; zeros after the last.
template <class T>
struct alignas(32) BlockOf {
  T values[kChannelBlock];

  BlockOf(const T* from, int64_t count) {
    memset(values, 0, sizeof(values));
    memcpy(values, from, static_cast<size_t>(count) * sizeof(T));
  }
};

// A block starts at channel `channel`, of which the first `count` exist.
void store_floats(const PackedBinaryMatMulTask& task, int64_t channel, int64_t count, const int32_t* sums) {
  const BlockOf<float> scale(task.scale + channel, count), bias(task.bias + channel, count);
  float* y = task.y + channel;
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock, y += task.n) {
    alignas(32) float block[kChannelBlock];
    float* to = count == kChannelBlock ? y : block;
    BEBERT_UNROLL
    for (int c = 0; c < kChannelBlock; c += 8) {
      const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(load_vector(sums + c)), _mm256_load_ps(scale.values + c));
      _mm256_storeu_ps(to + c, _mm256_add_ps(product, _mm256_load_ps(bias.values + c)));
    }
    if (to == block) memcpy(y, block, static_cast<size_t>(count) * sizeof(float));
  }
}

// Bits by comparisons of sums alone: the sign bit is flipped, so that signed comparisons order unsigned numbers.
void store_bits(const PackedBinaryMatMulTask& task, int64_t channel, int64_t count, const int32_t* sums) {
  BlockOf<int32_t> begin(task.zero_begin + channel, count);
  BlockOf<uint32_t> length(task.zero_length + channel, count);
  for (int c = 0; c < kChannelBlock; ++c) {
    begin.values[c] ^= INT32_MIN;
    length.values[c] ^= 0x80000000u;
  }
  const int64_t row_bytes = packed_row_bytes(task.n);
  uint8_t* codes = task.codes_out + channel / 8;
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock, codes += row_bytes) {
    uint64_t bits = 0;
    BEBERT_UNROLL
    for (int c = 0; c < kChannelBlock; c += 32) {
      __m256i one[4];
      for (int i = 0; i < 4; ++i) {
        const __m256i beyond = _mm256_sub_epi32(load_vector(sums + c + 8 * i), load_vector(begin.values + c + 8 * i));
        one[i] = _mm256_cmpgt_epi32(beyond, load_vector(length.values + c + 8 * i));
      }
      bits |= uint64_t{sign_bits(one[0], one[1], one[2], one[3])} << c;
    }
    bits &= first_bits(count);
    memcpy(codes, &bits, sizeof(bits));
  }
}

// Ternary codes in the same way.
void store_signs(const PackedBinaryMatMulTask& task, int64_t channel, int64_t count, const int32_t* sums) {
  const int32_t* begins = task.zero_begin + channel;
  const uint32_t* lengths = task.zero_length + channel;
  BlockOf<int32_t> begin[2] = {{begins, count}, {begins + task.zero_set, count}};
  BlockOf<uint32_t> length[2] = {{lengths, count}, {lengths + task.zero_set, count}};
  for (int c = 0; c < 2 * kChannelBlock; ++c) {
    begin[c / kChannelBlock].values[c % kChannelBlock] ^= INT32_MIN;
    length[c / kChannelBlock].values[c % kChannelBlock] ^= 0x80000000u;
  }
  uint8_t* codes = task.codes_out + channel;
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock, codes += task.n) {
    alignas(32) uint8_t levels[kChannelBlock];
    BEBERT_UNROLL
    for (int c = 0; c < kChannelBlock; c += 32) {
      __m256i level[4];
      for (int i = 0; i < 4; ++i) {
        const int at = c + 8 * i;
        const auto is = [&](int set) {  // -1 or 0
          const __m256i beyond = _mm256_sub_epi32(load_vector(sums + at), load_vector(begin[set].values + at));
          return _mm256_cmpgt_epi32(beyond, load_vector(length[set].values + at));
        };
        level[i] = _mm256_add_epi32(_mm256_sub_epi32(_mm256_set1_epi32(1), is(0)), is(1));
      }
      store_vector(levels + c, narrow_to_bytes(level[0], level[1], level[2], level[3]));
    }
    memcpy(codes, levels, static_cast<size_t>(count));
  }
}

template <Activation kActivation, bool kBits>
void store_codes(const PackedBinaryMatMulTask& task, int64_t channel, int64_t count, const int32_t* sums) {
  const BlockOf<float> scale(task.scale + channel, count), bias(task.bias + channel, count);
  const BlockOf<float> shift(task.shift + channel, count), inverse_step(task.inverse_step + channel, count);
  const CodeRange range(task.output);
  // Of the 32 channels from c on.
  const auto quantizer_inputs = [&](const int32_t* token_sums, int64_t c, __m256(&z)[4]) {
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const __m256 sum = _mm256_cvtepi32_ps(load_vector(token_sums + c + 8 * i));
      z[i] = _mm256_mul_ps(sum, _mm256_load_ps(scale.values + c + 8 * i));
      z[i] = _mm256_add_ps(z[i], _mm256_load_ps(bias.values + c + 8 * i));
    }
    activate<kActivation>(z);
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) {
      z[i] = _mm256_add_ps(z[i], _mm256_load_ps(shift.values + c + 8 * i));
      z[i] = _mm256_mul_ps(z[i], _mm256_load_ps(inverse_step.values + c + 8 * i));
    }
  };
  const int64_t row_bytes = code_row_bytes(task.output, task.n);
  uint8_t* codes = task.codes_out + (kBits ? channel / 8 : channel);
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock, codes += row_bytes) {
    uint64_t bits = 0;
    alignas(32) uint8_t levels[kChannelBlock];
    for (int64_t c = 0; c < kChannelBlock; c += 32) {
      __m256 z[4];
      quantizer_inputs(sums, c, z);
      if (kBits) {
        for (int i = 0; i < 4; ++i) bits |= static_cast<uint64_t>(range.bits(z[i])) << (c + 8 * i);
      } else {
        store_vector(levels + c,
                     narrow_to_bytes(range.levels(z[0]), range.levels(z[1]), range.levels(z[2]), range.levels(z[3])));
      }
    }
    if (kBits) {
      bits &= first_bits(count);
      memcpy(codes, &bits, sizeof(bits));
    } else {
      memcpy(codes, levels, static_cast<size_t>(count));
    }
  }
}

void store(const PackedBinaryMatMulTask& task, int64_t channel, const int32_t* sums) {
  const int64_t count = smaller(kChannelBlock, task.n - channel);
  if (task.y) return store_floats(task, channel, count, sums);
  const bool bits = task.output.width == 1;
  if (task.zero_begin) return (bits ? store_bits : store_signs)(task, channel, count, sums);
  const auto choose = [bits](auto bit_codes, auto byte_codes) { return bits ? bit_codes : byte_codes; };
  switch (task.activation) {
    case Activation::relu:
      return choose(store_codes<Activation::relu, true>, store_codes<Activation::relu, false>)(task, channel, count,
                                                                                               sums);
    case Activation::gelu:
      return choose(store_codes<Activation::gelu, true>, store_codes<Activation::gelu, false>)(task, channel, count,
                                                                                               sums);
    case Activation::none:
      break;
  }
  choose(store_codes<Activation::none, true>, store_codes<Activation::none, false>)(task, channel, count, sums);
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_EPILOGUE_H_
