// SPDX-License-Identifier: Apache-2.0
// Codes of width 1: 64 channels a word, eight output channels a vector; xor (sign) or and (bool), then count the bits.
//
// Weights: for each 32 output channels and each word of K, the words of the 32 rows, one after the other.
// Three vector operations for 512 products: the four 256-bit pipes of Zen 4 are full, whatever the tile. Summing two
// words in a carry-save adder of three vpternlog leaves five for 1024, and was slower (1150 against 1220 G products a
// second).
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_

#include <string.h>

#include "x86_avx512_tile.h"

namespace bebert {
namespace {

void interleave_words(const uint8_t* rows, int64_t n, int64_t k, uint8_t* out) {
  const int64_t words = packed_row_bytes(k) / 8;
  for (int64_t c = 0; c < padded_channels(n); ++c) {
    for (int64_t w = 0; w < words; ++w) {
      uint8_t* to = out + (c / kTileChannels * words + w) * kWordBytes + c % kTileChannels * 8;
      for (int64_t b = 0; b < 8; ++b) to[b] = c < n ? rows[(c * words + w) * 8 + b] : uint8_t{0};
    }
  }
}

inline int64_t load_word(const uint8_t* bytes) {
  int64_t word;
  memcpy(&word, bytes, sizeof(word));
  return word;
}

// Padding bits are zero in codes and weights, and so count in none of the sums.
template <int kTokens, bool kSign>
void xnor_tile(const uint8_t* codes, int64_t row_bytes, const uint8_t* weights, int64_t k, Accumulators out) {
  constexpr int kVectors = kTileChannels / 8;
  const int64_t words = row_bytes / 8;
  __m512i sums[kTokens][kVectors];
  int64_t ones[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    ones[t] = 0;
    for (int v = 0; v < kVectors; ++v) sums[t][v] = _mm512_setzero_si512();
  }
  for (int64_t w = 0; w < words; ++w, weights += kWordBytes) {
    __m512i row_words[kVectors];
    for (int v = 0; v < kVectors; ++v) row_words[v] = _mm512_load_si512(weights + 64 * v);
    for (int t = 0; t < kTokens; ++t) {
      const int64_t word = load_word(codes + t * row_bytes + 8 * w);
      if (!kSign) ones[t] += _mm_popcnt_u64(static_cast<uint64_t>(word));
      const __m512i code_word = _mm512_set1_epi64(word);
      for (int v = 0; v < kVectors; ++v) {
        const __m512i bits =
            kSign ? _mm512_xor_si512(code_word, row_words[v]) : _mm512_and_si512(code_word, row_words[v]);
        sums[t][v] = _mm512_add_epi64(sums[t][v], _mm512_popcnt_epi64(bits));
      }
    }
  }
  // sign: k - 2 * (channels that differ); bool: 2 * (ones that meet a +1) - ones.
  for (int t = 0; t < kTokens; ++t) {
    const __m256i offset = _mm256_set1_epi32(static_cast<int32_t>(kSign ? k : -ones[t]));
    for (int v = 0; v < kVectors; ++v) {
      const __m256i count = _mm512_cvtepi64_epi32(sums[t][v]);
      const __m256i twice = _mm256_add_epi32(count, count);
      const __m256i dot = kSign ? _mm256_sub_epi32(offset, twice) : _mm256_add_epi32(offset, twice);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out[t] + 8 * v), dot);
    }
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_
