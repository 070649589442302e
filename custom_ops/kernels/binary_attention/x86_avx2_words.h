// SPDX-License-Identifier: Apache-2.0
// Attention on codes of any type as int16: vpmaddwd adds two products to an int32.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_WORDS_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_WORDS_H_

#include "x86_avx2_scores.h"

namespace bebert {
namespace {

// rows [keys, stride] to [keys / 2, stride, 2 keys].
inline void pair_values(const int16_t* rows, int64_t keys, int64_t stride, int16_t* out) {
  for (int64_t j = 0; j < keys; j += 2, rows += 2 * stride) {
    for (int64_t d = 0; d < stride; d += 16, out += 32) {
      const __m256i even = load_vector(rows + d), odd = load_vector(rows + stride + d);
      const __m256i low = _mm256_unpacklo_epi16(even, odd), high = _mm256_unpackhi_epi16(even, odd);
      store_vector(out, _mm256_permute2x128_si256(low, high, 0x20));
      store_vector(out + 16, _mm256_permute2x128_si256(low, high, 0x31));
    }
  }
}

// out[t][c] = sum over i of words[t][i] * columns[i / 2][c][i % 2] for kRows rows and 16 columns c; `length` is even.
BEBERT_NOINLINE void multiply_words(const int16_t* words, int64_t words_stride, int64_t length, const int16_t* columns,
                                    int64_t column_stride, int32_t* out, int64_t out_stride) {
  __m256i sums[kRows][2];
  BEBERT_UNROLL
  for (int t = 0; t < kRows; ++t) sums[t][0] = sums[t][1] = _mm256_setzero_si256();
  for (int64_t i = 0; i < length; i += 2, columns += column_stride) {
    const __m256i column[2] = {load_vector(columns), load_vector(columns + 16)};
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      int32_t pair;
      memcpy(&pair, words + t * words_stride + i, sizeof(pair));
      const __m256i both = _mm256_set1_epi32(pair);
      BEBERT_UNROLL
      for (int b = 0; b < 2; ++b) {
        sums[t][b] = _mm256_add_epi32(sums[t][b], _mm256_madd_epi16(both, column[b]));
        BEBERT_KEEP(sums[t][b]);
      }
    }
  }
  BEBERT_UNROLL
  for (int t = 0; t < kRows; ++t) {
    BEBERT_UNROLL
    for (int b = 0; b < 2; ++b) store_vector(out + t * out_stride + 8 * b, sums[t][b]);
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_WORDS_H_
