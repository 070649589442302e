// SPDX-License-Identifier: Apache-2.0
// Codes of width 1: 64 channels a word, eight output channels a vector; xor (sign) or and (bool), then count the bits.
//
// Weights: for each 32 output channels and each word of K, the words of the 32 rows, one after the other.
// Three vector operations for 512 products: the four 256-bit pipes of Zen 4 are full, whatever the tile. Summing two
// words in a carry-save adder of three vpternlog leaves five for 1024, and was slower (1150 against 1220 G products a
// second).
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_

#include "x86_avx512_tile.h"

namespace bebert {
namespace {

constexpr int64_t kXnorChannels = 32;

// Weights of 32 output channels and one word of K.
constexpr int64_t kXnorWordBytes = kXnorChannels * 8;

void interleave_words(const uint8_t* rows, int64_t n, int64_t k, uint8_t* out) {
  const int64_t words = words_of_row(k);
  for (int64_t c = 0; c < padded_channels(n); ++c) {
    for (int64_t w = 0; w < words; ++w) {
      uint8_t* to = out + (c / kXnorChannels * words + w) * kXnorWordBytes + c % kXnorChannels * 8;
      for (int64_t b = 0; b < 8; ++b) to[b] = c < n ? rows[(c * words + w) * 8 + b] : uint8_t{0};
    }
  }
}

inline int64_t load_word(const uint8_t* bytes) {
  int64_t word;
  memcpy(&word, bytes, sizeof(word));
  return word;
}

// The low halves of two vectors of eight int64.
inline __m512i narrow(__m512i a, __m512i b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_permutex2var_epi32(a, even, b);
}

// The sums of kTokens tokens and 32 channels. Padding bits are zero in codes and weights, and so count in none of them.
template <int kTokens, bool kSign>
void xnor_tile(const uint8_t* codes, int64_t words, const uint8_t* weights, int64_t k, int32_t* out) {
  constexpr int kVectors = kXnorChannels / 8;
  __m512i counts[kTokens][kVectors];
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) counts[t][v] = _mm512_setzero_si512();
  }
  for (int64_t w = 0; w < words; ++w, weights += kXnorWordBytes) {
    __m512i row_words[kVectors];
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) row_words[v] = _mm512_load_si512(weights + 64 * v);
    BEBERT_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      const __m512i word = _mm512_set1_epi64(load_word(codes + (t * words + w) * 8));
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const __m512i bits = kSign ? _mm512_xor_si512(word, row_words[v]) : _mm512_and_si512(word, row_words[v]);
        counts[t][v] = _mm512_add_epi64(counts[t][v], _mm512_popcnt_epi64(bits));
      }
    }
  }
  // sign: k - 2 * (channels that differ); bool: 2 * (ones that meet a +1) - ones.
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    int64_t ones = 0;
    for (int64_t w = 0; !kSign && w < words; ++w) {
      ones += _mm_popcnt_u64(static_cast<uint64_t>(load_word(codes + (t * words + w) * 8)));
    }
    const __m512i offset = _mm512_set1_epi32(static_cast<int32_t>(kSign ? k : -ones));
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; v += 2) {
      const __m512i count = narrow(counts[t][v], counts[t][v + 1]);
      const __m512i twice = _mm512_add_epi32(count, count);
      const __m512i dot = kSign ? _mm512_sub_epi32(offset, twice) : _mm512_add_epi32(offset, twice);
      _mm512_store_si512(out + t * kChannelBlock + 8 * v, dot);
    }
  }
}

template <bool kSign>
void multiply_bits(const PackedBinaryMatMulTask& task, int64_t channel, Sums sums) {
  const int64_t words = words_of_row(task.k);
  for (int64_t c = 0; c < kChannelBlock; c += kXnorChannels) {
    const uint8_t* weights = task.weights + (channel + c) * words * 8;
    const uint8_t* codes = task.codes;
    int64_t t = 0;
    for (; t + 4 <= task.tokens; t += 4, codes += 32 * words) {
      xnor_tile<4, kSign>(codes, words, weights, task.k, sums[t] + c);
    }
    for (; t < task.tokens; ++t, codes += 8 * words) {
      xnor_tile<1, kSign>(codes, words, weights, task.k, sums[t] + c);
    }
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_
