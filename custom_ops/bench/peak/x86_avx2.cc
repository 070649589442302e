// SPDX-License-Identifier: Apache-2.0
#include "../../kernels/x86_avx2_vectors.h"
#include "peak.h"

namespace bebert {

namespace {

constexpr int kSums = 4;

// Keeps a value in a register that the compiler knows nothing about.
inline void hide(__m256i& x) { __asm__ volatile("" : "+x"(x)); }

}  // namespace

// 768 one-bit products (kernels/x86_avx2_counts.h): a step of three look-ups for two rows of codes.
int64_t peak_bits_x86_avx2(int64_t rounds) {
  __m256i low[kSums], high[kSums], a = _mm256_set1_epi8(3), table = _mm256_set1_epi8(0x11);
  const __m256i nibble = _mm256_set1_epi8(15);
  BEBERT_UNROLL
  for (int i = 0; i < kSums; ++i) low[i] = high[i] = _mm256_setzero_si256();
  for (int64_t round = 0; round < rounds; ++round) {
    BEBERT_UNROLL
    for (int i = 0; i < kSums; ++i) {
      hide(table);
      __m256i x = _mm256_shuffle_epi8(table, a);
      hide(table);
      x = _mm256_add_epi8(x, _mm256_shuffle_epi8(table, a));
      hide(table);
      x = _mm256_add_epi8(x, _mm256_shuffle_epi8(table, a));
      low[i] = _mm256_add_epi8(low[i], _mm256_and_si256(x, nibble));
      high[i] = _mm256_add_epi16(high[i], _mm256_srli_epi16(x, 4));
    }
  }
  BEBERT_UNROLL
  for (int i = 0; i < kSums; ++i) {
    hide(low[i]);
    hide(high[i]);
  }
  return rounds * kSums * 768;
}

// 512 products by look-up (kernels/packed_binary_matmul/x86_avx2_values.h): four look-ups and the two sums of words.
int64_t peak_tables_x86_avx2(int64_t rounds) {
  __m256i all[kSums], odd[kSums], a = _mm256_set1_epi8(3), table = _mm256_set1_epi8(1);
  BEBERT_UNROLL
  for (int i = 0; i < kSums; ++i) all[i] = odd[i] = _mm256_setzero_si256();
  for (int64_t round = 0; round < rounds; ++round) {
    BEBERT_UNROLL
    for (int i = 0; i < kSums; ++i) {
      hide(table);
      __m256i x = _mm256_shuffle_epi8(table, a);
      BEBERT_UNROLL
      for (int g = 1; g < 4; ++g) {
        hide(table);
        x = _mm256_add_epi8(x, _mm256_shuffle_epi8(table, a));
      }
      all[i] = _mm256_add_epi16(all[i], x);
      odd[i] = _mm256_add_epi16(odd[i], _mm256_srli_epi16(x, 8));
    }
  }
  BEBERT_UNROLL
  for (int i = 0; i < kSums; ++i) {
    hide(all[i]);
    hide(odd[i]);
  }
  return rounds * kSums * 512;
}

}  // namespace bebert
