// SPDX-License-Identifier: Apache-2.0
// Loads and stores of vectors, and hints to the compiler. Included by the x86_avx2 files only.
#ifndef BEBERT_EDGE_KERNELS_X86_AVX2_VECTORS_H_
#define BEBERT_EDGE_KERNELS_X86_AVX2_VECTORS_H_

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "compiler.h"

// Keeps a sum in its register: GCC would reorder the additions of a tile and run out of registers.
#if defined(__GNUC__)
#define BEBERT_KEEP(vector) __asm__("" : "+x"(vector))
#else
#define BEBERT_KEEP(vector)
#endif

namespace bebert {
namespace {

inline __m256i load_vector(const void* from) { return _mm256_load_si256(static_cast<const __m256i*>(from)); }
inline void store_vector(void* to, __m256i v) { _mm256_store_si256(static_cast<__m256i*>(to), v); }

// Sixteen bytes, twice.
inline __m256i load_table(const void* from) {
  return _mm256_broadcastsi128_si256(_mm_load_si128(static_cast<const __m128i*>(from)));
}

inline __m256i twice(__m128i lane) { return _mm256_broadcastsi128_si256(lane); }

// `count` bytes, then bytes of `rest`.
inline __m256i load_bytes(const uint8_t* from, int64_t count, uint8_t rest) {
  if (count >= 32) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  alignas(32) uint8_t bytes[32];
  memset(bytes, rest, sizeof(bytes));
  if (count > 0) memcpy(bytes, from, static_cast<size_t>(count));
  return load_vector(bytes);
}

inline int32_t sum_int32(__m256i v) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}

// The sum of unsigned bytes, as four int64 that are small.
inline __m256i sum_bytes(__m256i v) { return _mm256_sad_epu8(v, _mm256_setzero_si256()); }

// Adds sums for 32 channels, times `factor`, to int32 sums. `all` are the sums of both bytes of each
// word (modulo 2^16), `odd` those of the odd bytes. Sums of words are below 2^15, and byte 4 i + q of
// the vector belongs to channel 8 q + i. With kStart sums start from `term`.
template <bool kStart>
inline void add_words(__m256i all, __m256i odd, __m256i factor, __m256i term, int32_t* sums) {
  const __m256i even = _mm256_sub_epi16(all, _mm256_slli_epi16(odd, 8));
  // A word at a time: the products of the lower words with the factor, which is in every int32, and of the upper ones.
  const __m256i upper = _mm256_slli_epi32(factor, 16);
  const __m256i quarters[4] = {_mm256_madd_epi16(even, factor), _mm256_madd_epi16(odd, factor),
                               _mm256_madd_epi16(even, upper), _mm256_madd_epi16(odd, upper)};
  BEBERT_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m256i before = kStart ? term : load_vector(sums + 8 * i);
    store_vector(sums + 8 * i, _mm256_add_epi32(before, quarters[i]));
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_X86_AVX2_VECTORS_H_
