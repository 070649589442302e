// SPDX-License-Identifier: Apache-2.0
// Attention on codes of width 8 of up to four bits as bytes: vpmaddubsw adds two products of an unsigned byte (level of
// a query or probability) and a signed byte (value of a key or value), at most 2 * 15 * 15, to an int16.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_BYTES_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_BYTES_H_

#include "x86_avx2_scores.h"

namespace bebert {
namespace {

inline bool four_bits(CodeType code) { return code.width == 8 && code.high - code.low <= 15; }

// Products that add up in int16: 64 times 450.
constexpr int64_t kByteLength = 256;

// The codes of one row plus `add` as bytes; zeros up to `padded`, a multiple of 32.
inline void unpack_bytes(const uint8_t* row, int64_t count, int64_t padded, int32_t add, uint8_t* bytes) {
  const __m256i adds = _mm256_set1_epi8(static_cast<char>(add));
  int64_t d = 0;
  for (; d < count; d += 32) {
    store_vector(bytes + d, _mm256_add_epi8(load_bytes(row + d, count - d, static_cast<uint8_t>(-add)), adds));
  }
  for (; d < padded; d += 32) store_vector(bytes + d, _mm256_setzero_si256());
}

// rows [keys, stride] to [keys / 4, stride, 4 keys]; keys is a multiple of 4, stride of 32.
inline void interleave_values(const uint8_t* rows, int64_t keys, int64_t stride, uint8_t* out) {
  for (int64_t j = 0; j < keys; j += 4, rows += 4 * stride) {
    for (int64_t d = 0; d < stride; d += 32, out += 128) {
      __m256i row[4];
      for (int i = 0; i < 4; ++i) row[i] = load_vector(rows + i * stride + d);
      const __m256i low01 = _mm256_unpacklo_epi8(row[0], row[1]), high01 = _mm256_unpackhi_epi8(row[0], row[1]);
      const __m256i low23 = _mm256_unpacklo_epi8(row[2], row[3]), high23 = _mm256_unpackhi_epi8(row[2], row[3]);
      const __m256i first = _mm256_unpacklo_epi16(low01, low23), second = _mm256_unpackhi_epi16(low01, low23);
      const __m256i third = _mm256_unpacklo_epi16(high01, high23), fourth = _mm256_unpackhi_epi16(high01, high23);
      store_vector(out, _mm256_permute2x128_si256(first, second, 0x20));
      store_vector(out + 32, _mm256_permute2x128_si256(third, fourth, 0x20));
      store_vector(out + 64, _mm256_permute2x128_si256(first, second, 0x31));
      store_vector(out + 96, _mm256_permute2x128_si256(third, fourth, 0x31));
    }
  }
}

// out[t][c] = start[c] + sum over i of bytes[t][i] * columns[i / 4][c][i % 4] for kRows rows and 16 columns c; `length`
// is a multiple of 4.
BEBERT_NOINLINE void multiply_bytes(const uint8_t* bytes, int64_t bytes_stride, int64_t length, const uint8_t* columns,
                                    int64_t column_stride, const int32_t* start, int32_t* out, int64_t out_stride) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t begin = 0; begin < length || begin == 0; begin += kByteLength) {
    __m256i sums[kRows][2];
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) sums[t][0] = sums[t][1] = _mm256_setzero_si256();
    for (int64_t i = begin; i < smaller(length, begin + kByteLength); i += 4, columns += column_stride) {
      const __m256i column[2] = {load_vector(columns), load_vector(columns + 32)};
      BEBERT_UNROLL
      for (int t = 0; t < kRows; ++t) {
        int32_t four;
        memcpy(&four, bytes + t * bytes_stride + i, sizeof(four));
        const __m256i all = _mm256_set1_epi32(four);
        BEBERT_UNROLL
        for (int b = 0; b < 2; ++b) {
          sums[t][b] = _mm256_add_epi16(sums[t][b], _mm256_maddubs_epi16(all, column[b]));
          BEBERT_KEEP(sums[t][b]);
        }
      }
    }
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      BEBERT_UNROLL
      for (int b = 0; b < 2; ++b) {
        int32_t* to = out + t * out_stride + 8 * b;
        const __m256i before = begin == 0 ? load_vector(start + 8 * b) : load_vector(to);
        store_vector(to, _mm256_add_epi32(before, _mm256_madd_epi16(sums[t][b], ones)));
      }
    }
  }
}

// out[c] = factor * (sum of column c) for 16 columns.
inline void sum_columns(const uint8_t* columns, int64_t length, int64_t column_stride, int32_t factor, int32_t* out) {
  const __m256i byte = _mm256_set1_epi8(1), word = _mm256_set1_epi16(1);
  BEBERT_UNROLL
  for (int b = 0; b < 2; ++b) {
    __m256i sum = _mm256_setzero_si256();
    for (int64_t i = 0; i < length && factor != 0; i += 4) {
      const __m256i pairs = _mm256_maddubs_epi16(byte, load_vector(columns + i / 4 * column_stride + 32 * b));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, word));
    }
    store_vector(out + 8 * b, _mm256_mullo_epi32(sum, _mm256_set1_epi32(factor)));
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_BYTES_H_
