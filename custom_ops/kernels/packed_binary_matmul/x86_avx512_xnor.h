// SPDX-License-Identifier: Apache-2.0
// Codes of width 1: 64 channels a word, eight output channels a vector; xor (sign) or and (bool), then count the bits.
//
// Weights: for each 64 output channels and each 32 channels of K, four bytes of each of the 64 rows, one after the
// other. Three vector operations for 512 products: the four 256-bit pipes of Zen 4 are full, whatever the tile. Summing
// two words in a carry-save adder of three vpternlog leaves five for 1024, and was slower (1150 against 1220 G products
// a second).
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_

#include "x86_avx512_tile.h"

namespace bebert {
namespace {

// Weights of a block and 32 channels of K.
constexpr int64_t kXnorStepBytes = kChannelBlock * 4;

void interleave_words(const uint8_t* rows, int64_t n, int64_t k, uint8_t* out) {
  const int64_t row_bytes = packed_row_bytes(k);
  for (int64_t c = 0; c < padded_channels(n); ++c) {
    uint8_t* to = out + c / kChannelBlock * kChannelBlock * row_bytes + c % kChannelBlock * 4;
    for (int64_t b = 0; b < row_bytes; b += 4, to += kXnorStepBytes) {
      if (c < n) {
        memcpy(to, rows + c * row_bytes + b, 4);
      } else {
        memset(to, 0, 4);
      }
    }
  }
}

inline int32_t load_int32(const uint8_t* bytes) {
  int32_t word;
  memcpy(&word, bytes, sizeof(word));
  return word;
}

inline int32_t count_ones(const uint8_t* bits, int64_t bytes) {
  int64_t count = 0;
  for (int64_t b = 0; b < bytes; b += 8) {
    uint64_t word;
    memcpy(&word, bits + b, sizeof(word));
    count += _mm_popcnt_u64(word);
  }
  return static_cast<int32_t>(count);
}

// count += number of bits. Written so that GCC keeps counts and weights in registers.
template <bool kSign>
inline void add_count(__m512i word, __m512i row_word, __m512i& count) {
#if defined(__GNUC__)
  __m512i bits;
  if (kSign) {
    __asm__("vpxord %[word], %[row_word], %[bits]\n\tvpopcntd %[bits], %[bits]\n\tvpaddd %[bits], %[count], %[count]"
            : [bits] "=&v"(bits), [count] "+v"(count)
            : [word] "v"(word), [row_word] "v"(row_word));
  } else {
    __asm__("vpandd %[word], %[row_word], %[bits]\n\tvpopcntd %[bits], %[bits]\n\tvpaddd %[bits], %[count], %[count]"
            : [bits] "=&v"(bits), [count] "+v"(count)
            : [word] "v"(word), [row_word] "v"(row_word));
  }
#else
  const __m512i bits = kSign ? _mm512_xor_si512(word, row_word) : _mm512_and_si512(word, row_word);
  count = _mm512_add_epi32(count, _mm512_popcnt_epi32(bits));
#endif
}

// The sums of kTokens tokens and a block of channels. Padding bits are zero in codes and weights, and so count in none
// of them.
template <int kTokens, bool kSign, class Output>
BEBERT_NOINLINE void xnor_tile(const uint8_t* codes, const uint8_t* weights, int64_t k, const Output& output) {
  const int64_t row_bytes = packed_row_bytes(k);
  __m512i counts[kTokens][kVectors];
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) counts[t][v] = _mm512_setzero_si512();
  }
  for (int64_t b = 0; b < row_bytes; b += 4, weights += kXnorStepBytes) {
    __m512i row_words[kVectors];
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) row_words[v] = _mm512_load_si512(weights + 64 * v);
    BEBERT_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      const __m512i word = _mm512_set1_epi32(load_int32(codes + t * row_bytes + b));
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        add_count<kSign>(word, row_words[v], counts[t][v]);
      }
    }
  }
  int32_t offsets[kTokens];
  for (int t = 0; t < kTokens; ++t)
    offsets[t] = kSign ? static_cast<int32_t>(k) : -count_ones(codes + t * row_bytes, row_bytes);
  // sign: k - 2 * (channels that differ); bool: 2 * (ones that meet a +1) - ones.
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const __m512i offset = _mm512_set1_epi32(offsets[t]);
      const __m512i twice = _mm512_add_epi32(counts[t][v], counts[t][v]);
      output.write(t, v, kSign ? _mm512_sub_epi32(offset, twice) : _mm512_add_epi32(offset, twice));
    }
  }
}

// The products of all tokens of a task and one block of channels. `output_of(token)` is the output of a tile.
template <bool kSign, class OutputOf>
void multiply_bits(const PackedBinaryMatMulTask& task, int64_t channel, OutputOf output_of) {
  const int64_t row_bytes = packed_row_bytes(task.k);
  const uint8_t* weights = task.weights + channel * row_bytes;
  const uint8_t* codes = task.codes;
  int64_t t = 0;
  for (; t + kTokenTile <= task.tokens; t += kTokenTile, codes += kTokenTile * row_bytes) {
    xnor_tile<kTokenTile, kSign>(codes, weights, task.k, output_of(t));
  }
  for (; t < task.tokens; ++t, codes += row_bytes) xnor_tile<1, kSign>(codes, weights, task.k, output_of(t));
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_
