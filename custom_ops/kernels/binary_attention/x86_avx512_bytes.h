// SPDX-License-Identifier: Apache-2.0
// Attention on bytes: vpdpbusd adds four products of an unsigned byte (level of a query or probability) and a signed
// byte (key or value) to an int32. Sums of up to kMaximumLength products of 255 * 128 fit.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BYTES_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BYTES_H_

#include "x86_avx512_codes.h"

namespace bebert {
namespace {

inline int32_t load_int32(const uint8_t* bytes) {
  int32_t value;
  memcpy(&value, bytes, sizeof(value));
  return value;
}

// Of four vectors of four elements: element i of all four, for i = 0 .. 3. The elements are int32, or bytes that are
// then four to an int32.
inline void store_transposed(__m128i low01, __m128i high01, __m128i low23, __m128i high23, int64_t stride,
                             uint8_t* out) {
  const __m128i columns[4] = {_mm_unpacklo_epi64(low01, low23), _mm_unpackhi_epi64(low01, low23),
                              _mm_unpacklo_epi64(high01, high23), _mm_unpackhi_epi64(high01, high23)};
  for (int i = 0; i < 4; ++i) _mm_store_si128(reinterpret_cast<__m128i*>(out + i * stride), columns[i]);
}

// rows [keys, stride] to [keys / 16, stride / 4, 16 keys, 4 channels]; keys and stride are multiples of 16.
inline void transpose_keys(const uint8_t* rows, int64_t keys, int64_t stride, uint8_t* out) {
  for (int64_t j = 0; j < keys; j += 4) {
    uint8_t* to = out + j / 16 * 16 * stride + j % 16 * 4;
    for (int64_t d = 0; d < stride; d += 16) {
      __m128i row[4];
      for (int i = 0; i < 4; ++i) {
        row[i] = _mm_load_si128(reinterpret_cast<const __m128i*>(rows + (j + i) * stride + d));
      }
      store_transposed(_mm_unpacklo_epi32(row[0], row[1]), _mm_unpackhi_epi32(row[0], row[1]),
                       _mm_unpacklo_epi32(row[2], row[3]), _mm_unpackhi_epi32(row[2], row[3]), 64, to + d / 4 * 64);
    }
  }
}

// rows [keys, stride] to [keys / 4, stride, 4 keys].
inline void transpose_values(const uint8_t* rows, int64_t keys, int64_t stride, uint8_t* out) {
  for (int64_t j = 0; j < keys; j += 4) {
    for (int64_t d = 0; d < stride; d += 16) {
      __m128i row[4];
      for (int i = 0; i < 4; ++i) {
        row[i] = _mm_load_si128(reinterpret_cast<const __m128i*>(rows + (j + i) * stride + d));
      }
      const __m128i low01 = _mm_unpacklo_epi8(row[0], row[1]), high01 = _mm_unpackhi_epi8(row[0], row[1]);
      const __m128i low23 = _mm_unpacklo_epi8(row[2], row[3]), high23 = _mm_unpackhi_epi8(row[2], row[3]);
      __m128i* to = reinterpret_cast<__m128i*>(out + (j * stride + d * 4));
      _mm_store_si128(to, _mm_unpacklo_epi16(low01, low23));
      _mm_store_si128(to + 1, _mm_unpackhi_epi16(low01, low23));
      _mm_store_si128(to + 2, _mm_unpacklo_epi16(high01, high23));
      _mm_store_si128(to + 3, _mm_unpackhi_epi16(high01, high23));
    }
  }
}

// out[t][16 * b .. 16 * b + 15] = start[16 * b ..] + sum over i of bytes[t][i] * columns[i / 4][16 * b ..][i % 4], for
// kRows rows of bytes and two blocks b of 16 columns, which are `block_stride` bytes apart. `length` is a multiple
// of 4.
inline void multiply_bytes(const uint8_t* bytes, int64_t bytes_stride, int64_t length, const uint8_t* columns,
                           int64_t column_stride, int64_t block_stride, const int32_t* start, int32_t* out,
                           int64_t out_stride) {
  __m512i sums[kRows][2];
  for (int t = 0; t < kRows; ++t) {
    for (int b = 0; b < 2; ++b) sums[t][b] = _mm512_load_si512(start + 16 * b);
  }
  for (int64_t i = 0; i < length; i += 4, columns += column_stride) {
    const __m512i column[2] = {_mm512_load_si512(columns), _mm512_load_si512(columns + block_stride)};
    for (int t = 0; t < kRows; ++t) {
      const __m512i four = _mm512_set1_epi32(load_int32(bytes + t * bytes_stride + i));
      for (int b = 0; b < 2; ++b) sums[t][b] = _mm512_dpbusd_epi32(sums[t][b], four, column[b]);
    }
  }
  for (int t = 0; t < kRows; ++t) {
    for (int b = 0; b < 2; ++b) _mm512_store_si512(out + t * out_stride + 16 * b, sums[t][b]);
  }
}

// out[c] = factor * (sum of the signed bytes of column c), for the columns of multiply_bytes.
inline void sum_columns(const uint8_t* columns, int64_t length, int64_t column_stride, int32_t factor, int32_t* out) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < length; i += 4, columns += column_stride) {
    sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_load_si512(columns));
  }
  _mm512_store_si512(out, _mm512_mullo_epi32(sum, _mm512_set1_epi32(factor)));
}

inline int32_t sum_bytes(const uint8_t* bytes, int64_t count) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += 64) {
    const __m512i part = _mm512_maskz_loadu_epi8(first_bytes(count - i), bytes + i);
    sum = _mm512_add_epi64(sum, _mm512_sad_epu8(part, _mm512_setzero_si512()));
  }
  return static_cast<int32_t>(_mm512_reduce_add_epi64(sum));
}

// Scores of kRows queries, overwritten by their exponentials, to probabilities as level bytes; zero for keys after the
// last. keys > 0. The sum of at most kMaximumLength exponentials of 2^15 is below 2^31. Each step is done for all
// queries, so that one need not wait for the other.
inline void softmax_bytes(int32_t* scores, int64_t keys, float score_scale, float probability_inverse_step,
                          CodeType code, int64_t stride, uint8_t* rows) {
  __m512i largest[kRows];
  for (int t = 0; t < kRows; ++t) {
    largest[t] = _mm512_set1_epi32(INT32_MIN);
    for (int64_t j = 0; j < keys; j += 16) {
      const __m512i score = _mm512_load_si512(scores + t * stride + j);
      largest[t] = _mm512_mask_max_epi32(largest[t], first_lanes(keys - j), largest[t], score);
    }
    largest[t] = _mm512_set1_epi32(_mm512_reduce_max_epi32(largest[t]));
  }

  const __m512 scale = _mm512_set1_ps(score_scale);
  __m512 r[kRows];
  for (int t = 0; t < kRows; ++t) {
    __m512i sum = _mm512_setzero_si512();
    for (int64_t j = 0; j < keys; j += 16) {
      int32_t* score = scores + t * stride + j;
      const __m512 difference = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(score), largest[t]));
      const __m512i e = _mm512_maskz_mov_epi32(first_lanes(keys - j), fixed_exp(_mm512_mul_ps(difference, scale)));
      _mm512_store_si512(score, e);
      sum = _mm512_add_epi32(sum, e);
    }
    r[t] = _mm512_set1_ps(probability_inverse_step / static_cast<float>(_mm512_reduce_add_epi32(sum)));
  }

  const CodeRange range(code);
  const __m128i one = _mm_set1_epi8(static_cast<char>(code.high - code.low));
  for (int t = 0; t < kRows; ++t) {
    for (int64_t j = 0; j < keys; j += 16) {
      const __mmask16 lanes = first_lanes(keys - j);
      const __m512 z = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(scores + t * stride + j)), r[t]);
      const __m128i levels = code.width == 8 ? _mm512_maskz_cvtepi32_epi8(lanes, range.levels(z))
                                             : _mm_maskz_mov_epi8(range.bits(lanes, z), one);
      _mm_store_si128(reinterpret_cast<__m128i*>(rows + t * stride + j), levels);
    }
  }
}

// The same without softmax: 1 where score + constant is positive.
inline void boolean_bytes(const int32_t* scores, int64_t keys, int32_t constant, uint8_t* row) {
  for (int64_t j = 0; j < keys; j += 16) {
    const __m512i score = _mm512_add_epi32(_mm512_load_si512(scores + j), _mm512_set1_epi32(constant));
    const __mmask16 positive = _mm512_mask_cmpgt_epi32_mask(first_lanes(keys - j), score, _mm512_setzero_si512());
    _mm_store_si128(reinterpret_cast<__m128i*>(row + j), _mm_maskz_set1_epi8(positive, 1));
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BYTES_H_
