// SPDX-License-Identifier: Apache-2.0
// Loads and stores of vectors, and hints to the compiler. Included by the x86_avx2 files only.
#ifndef BEBERT_EDGE_KERNELS_X86_AVX2_VECTORS_H_
#define BEBERT_EDGE_KERNELS_X86_AVX2_VECTORS_H_

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

// Before a loop over an array of vectors: keeps the array in registers.
#if defined(__clang__)
#define BEBERT_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define BEBERT_UNROLL _Pragma("GCC unroll 16")
#else
#define BEBERT_UNROLL
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

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_X86_AVX2_VECTORS_H_
