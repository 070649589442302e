// SPDX-License-Identifier: Apache-2.0
// Attention on codes of any type as int16: vpmaddwd adds two products to an int32.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_WORDS_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_WORDS_H_

#include "x86_avx2_codes.h"

namespace bebert {
namespace {

// Queries that are worked on together.
constexpr int64_t kRows = 4;

// The transpose of 8 x 8 int32.
inline void transpose(const __m256i (&rows)[8], __m256i (&columns)[8]) {
  __m256i pairs[8], fours[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    columns[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
    columns[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
  }
}

// rows [keys, stride] to [keys / 16, stride / 2, 16 keys, 2 channels]; keys and stride are multiples of 16.
inline void transpose_keys(const int16_t* rows, int64_t keys, int64_t stride, int16_t* out) {
  for (int64_t j = 0; j < keys; j += 8) {
    for (int64_t d = 0; d < stride; d += 16) {
      __m256i row[8], column[8];
      for (int i = 0; i < 8; ++i) row[i] = load_vector(rows + (j + i) * stride + d);
      transpose(row, column);
      int16_t* to = out + j / 16 * 16 * stride + d * 16 + j % 16 * 2;
      for (int i = 0; i < 8; ++i) store_vector(to + 32 * i, column[i]);
    }
  }
}

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
inline void multiply_words(const int16_t* words, int64_t words_stride, int64_t length, const int16_t* columns,
                           int64_t column_stride, int32_t* out, int64_t out_stride) {
  __m256i sums[kRows][2];
  for (int t = 0; t < kRows; ++t) sums[t][0] = sums[t][1] = _mm256_setzero_si256();
  for (int64_t i = 0; i < length; i += 2, columns += column_stride) {
    const __m256i column[2] = {load_vector(columns), load_vector(columns + 16)};
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      int32_t pair;
      memcpy(&pair, words + t * words_stride + i, sizeof(pair));
      const __m256i both = _mm256_set1_epi32(pair);
      for (int b = 0; b < 2; ++b) sums[t][b] = _mm256_add_epi32(sums[t][b], _mm256_madd_epi16(both, column[b]));
    }
  }
  for (int t = 0; t < kRows; ++t) {
    for (int b = 0; b < 2; ++b) store_vector(out + t * out_stride + 8 * b, sums[t][b]);
  }
}

inline int32_t largest_int32(__m256i v) {
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
  return _mm_cvtsi128_si32(most);
}

// The values of probabilities z as int32.
inline __m256i probability_values(__m256 z, const CodeRange& range, CodeType code) {
  if (code.width == 8) return _mm256_add_epi32(range.levels(z), range.low_value);
  const __m256i one = _mm256_castps_si256(_mm256_cmp_ps(z, range.middle, _CMP_GT_OQ));
  return _mm256_blendv_epi8(range.low_value, _mm256_set1_epi32(code.high), one);
}

inline void store_words(__m256i a, __m256i b, int16_t* out) {
  store_vector(out, _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8));
}

// Scores of one query, overwritten by their exponentials, to values of probabilities; zero for keys after the last, up
// to a multiple of 16. keys > 0. The sum of at most kMaximumLength exponentials of 2^15 is below 2^31.
inline void softmax_words(int32_t* scores, int64_t keys, float score_scale, float probability_inverse_step,
                          CodeType code, int16_t* row) {
  __m256i largest = _mm256_set1_epi32(INT32_MIN);
  for (int64_t j = 0; j < keys; j += 8) {
    const __m256i score = load_vector(scores + j);
    const __m256i known = keys - j >= 8 ? score : _mm256_blendv_epi8(largest, score, Lanes(keys - j).mask());
    largest = _mm256_max_epi32(largest, known);
  }
  largest = _mm256_set1_epi32(largest_int32(largest));

  const __m256 scale = _mm256_set1_ps(score_scale);
  __m256i sum = _mm256_setzero_si256();
  for (int64_t j = 0; j < keys; j += 8) {
    const __m256 difference = _mm256_cvtepi32_ps(_mm256_sub_epi32(load_vector(scores + j), largest));
    __m256i e = fixed_exp(_mm256_mul_ps(difference, scale));
    if (keys - j < 8) e = _mm256_and_si256(e, Lanes(keys - j).mask());
    store_vector(scores + j, e);
    sum = _mm256_add_epi32(sum, e);
  }

  const __m256 r = _mm256_set1_ps(probability_inverse_step / static_cast<float>(sum_int32(sum)));
  const CodeRange range(code);
  for (int64_t j = 0; j < keys; j += 16) {
    __m256i values[2];
    for (int i = 0; i < 2; ++i) {
      const __m256 z = _mm256_mul_ps(_mm256_cvtepi32_ps(load_vector(scores + j + 8 * i)), r);
      values[i] = probability_values(z, range, code);
      if (keys - j - 8 * i < 8) {
        const int64_t left = keys - j - 8 * i;
        values[i] = _mm256_and_si256(values[i], Lanes(left > 0 ? left : 0).mask());
      }
    }
    store_words(values[0], values[1], row + j);
  }
}

// The same without softmax: 1 where the score is positive.
inline void boolean_words(const int32_t* scores, int64_t keys, int16_t* row) {
  for (int64_t j = 0; j < keys; j += 16) {
    __m256i values[2];
    for (int i = 0; i < 2; ++i) {
      const int64_t left = keys - j - 8 * i;
      const __m256i positive = _mm256_cmpgt_epi32(load_vector(scores + j + 8 * i), _mm256_setzero_si256());
      values[i] = _mm256_srli_epi32(_mm256_and_si256(positive, Lanes(left > 0 ? left : 0).mask()), 31);
    }
    store_words(values[0], values[1], row + j);
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_WORDS_H_
