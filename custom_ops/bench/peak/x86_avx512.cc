// SPDX-License-Identifier: Apache-2.0
#include "../../kernels/x86_avx512_intrinsics.h"
#include "peak.h"

namespace bebert {

namespace {

constexpr int kSums = 8;

// Keeps a value in a register that the compiler knows nothing about.
inline void hide(__m512i& x) { __asm__ volatile("" : "+v"(x)); }

}  // namespace

// 512 one-bit products: xor, count, add.
int64_t peak_bits_x86_avx512(int64_t rounds) {
  __m512i sums[kSums], a = _mm512_set1_epi8(0x35), b = _mm512_set1_epi8(0x53);
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; ++i) {
    for (__m512i& sum : sums) {
      hide(a);
      sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(a, b)));
    }
  }
  for (__m512i& sum : sums) hide(sum);
  return rounds * kSums * 512;
}

// 576 products by look-up: twice 64 look-ups, one sum of bytes, one sum to int32 by signs.
int64_t peak_tables_x86_avx512(int64_t rounds) {
  __m512i sums[kSums], a = _mm512_set1_epi8(0x35), b = _mm512_set1_epi8(0x13), table = _mm512_set1_epi8(1);
  const __m512i signs = _mm512_set1_epi8(-1);
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; ++i) {
    for (__m512i& sum : sums) {
      hide(table);
      const __m512i pair = _mm512_add_epi8(_mm512_permutexvar_epi8(a, table), _mm512_permutexvar_epi8(b, table));
      sum = _mm512_dpbusd_epi32(sum, pair, signs);
    }
  }
  for (__m512i& sum : sums) hide(sum);
  return rounds * kSums * 576;
}

}  // namespace bebert
