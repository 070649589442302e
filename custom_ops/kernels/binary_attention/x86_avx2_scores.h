// SPDX-License-Identifier: Apache-2.0
// From int32 scores to probabilities, and the order of keys in which vectors of scores are computed.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_SCORES_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_SCORES_H_

#include <math.h>

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

// Rows of int32 (of two int16, or four bytes) [keys, length] to [keys / 16, length, 16 keys]; keys is a multiple of 16,
// length of 8.
inline void transpose_keys(const void* rows, int64_t keys, int64_t length, void* out) {
  for (int64_t j = 0; j < keys; j += 8) {
    for (int64_t d = 0; d < length; d += 8) {
      const int32_t* from = static_cast<const int32_t*>(rows) + j * length + d;
      int32_t* to = static_cast<int32_t*>(out) + (j / 16 * length + d) * 16 + j % 16;
      __m256i row[8], column[8];
      for (int i = 0; i < 8; ++i) row[i] = load_vector(from + i * length);
      transpose(row, column);
      for (int i = 0; i < 8; ++i) store_vector(to + 16 * i, column[i]);
    }
  }
}

// What stands for a probability: its value as int16, or its level as a byte.
struct WordProbabilities {
  using Type = int16_t;
  static void store(const __m256i (&levels)[4], __m256i low, int16_t* out) {
    for (int i = 0; i < 4; i += 2) {
      const __m256i words = _mm256_packs_epi32(_mm256_add_epi32(levels[i], low), _mm256_add_epi32(levels[i + 1], low));
      store_vector(out + 8 * i, _mm256_permute4x64_epi64(words, 0xd8));
    }
  }
};

struct ByteProbabilities {
  using Type = uint8_t;
  static void store(const __m256i (&levels)[4], __m256i, uint8_t* out) {
    store_vector(out, narrow_to_bytes(levels[0], levels[1], levels[2], levels[3]));
  }
};

inline int32_t largest_int32(__m256i v) {
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
  return _mm_cvtsi128_si32(most);
}

inline float largest_float(__m256 v) {
  __m128 most = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  most = _mm_max_ps(most, _mm_movehl_ps(most, most));
  return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
}

// Scores of one query, overwritten by their exponentials up to a multiple of 32; returns their sum, which at most
// kMaximumLength of 2^15 keep below 2^31. keys > 0.
inline int32_t exponentiate(int32_t* scores, int64_t keys, float score_scale) {
  const int64_t padded = round_up(keys, 32);
  for (int64_t j = keys; j < padded; ++j) scores[j] = scores[0];
  __m256i largest = load_vector(scores);
  for (int64_t j = 8; j < padded; j += 8) largest = _mm256_max_epi32(largest, load_vector(scores + j));
  largest = _mm256_set1_epi32(largest_int32(largest));

  const __m256 scale = _mm256_set1_ps(score_scale);
  __m256i sum = _mm256_setzero_si256();
  for (int64_t j = 0; j < padded; j += 32) {
    __m256 differences[4];
    __m256i e[4];
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const __m256i difference = _mm256_sub_epi32(load_vector(scores + j + 8 * i), largest);
      differences[i] = _mm256_mul_ps(_mm256_cvtepi32_ps(difference), scale);
    }
    fixed_exp(differences, e);
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) {
      store_vector(scores + j + 8 * i, e[i]);
      sum = _mm256_add_epi32(sum, e[i]);
    }
  }
  int32_t total = sum_int32(sum);
  for (int64_t j = keys; j < padded; ++j) total -= scores[j];
  return total;
}

// The same with a bias for each key, of which there are as many as keys, rounded up to a multiple of 32.
inline int32_t exponentiate_biased(int32_t* scores, int64_t keys, float score_scale, const float* bias) {
  const int64_t padded = round_up(keys, 32);
  float* sums = reinterpret_cast<float*>(scores);
  const __m256 scale = _mm256_set1_ps(score_scale);
  for (int64_t j = 0; j < padded; j += 8) {
    const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(load_vector(scores + j)), scale);
    _mm256_storeu_ps(sums + j, _mm256_add_ps(scaled, _mm256_loadu_ps(bias + j)));
  }
  for (int64_t j = keys; j < padded; ++j) sums[j] = -INFINITY;
  __m256 largest = _mm256_loadu_ps(sums);
  for (int64_t j = 8; j < padded; j += 8) largest = _mm256_max_ps(largest, _mm256_loadu_ps(sums + j));
  largest = _mm256_set1_ps(largest_float(largest));
  __m256i total = _mm256_setzero_si256();
  for (int64_t j = 0; j < padded; j += 32) {
    __m256 differences[4];
    __m256i e[4];
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) differences[i] = _mm256_sub_ps(_mm256_loadu_ps(sums + j + 8 * i), largest);
    fixed_exp(differences, e);  // of -infinity: 0
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) {
      store_vector(scores + j + 8 * i, e[i]);
      total = _mm256_add_epi32(total, e[i]);
    }
  }
  return sum_int32(total);
}

// Exponentials of one query to probabilities; zero for keys after the last, up to a multiple of 32.
template <class Probabilities>
inline void to_probabilities(const int32_t* exponentials, int64_t keys, int32_t total, float probability_inverse_step,
                             CodeType code, typename Probabilities::Type* row) {
  const int64_t padded = round_up(keys, 32);
  const __m256 r = _mm256_set1_ps(probability_inverse_step / static_cast<float>(total));
  const CodeRange range(code);
  const __m256i one = _mm256_set1_epi32(code.high - code.low);
  for (int64_t j = 0; j < padded; j += 32) {
    __m256i levels[4];
    for (int i = 0; i < 4; ++i) {
      const __m256 z = _mm256_mul_ps(_mm256_cvtepi32_ps(load_vector(exponentials + j + 8 * i)), r);
      const __m256 above = _mm256_cmp_ps(z, range.middle, _CMP_GT_OQ);
      levels[i] = code.width == 8 ? range.levels(z) : _mm256_and_si256(_mm256_castps_si256(above), one);
    }
    Probabilities::store(levels, range.low_value, row + j);
  }
  for (int64_t j = keys; j < padded; ++j) row[j] = 0;
}

// Scores without softmax to probabilities: 1 where the score is positive.
template <class Probabilities>
inline void booleans(const int32_t* scores, int64_t keys, typename Probabilities::Type* row) {
  const int64_t padded = round_up(keys, 32);
  for (int64_t j = 0; j < padded; j += 32) {
    __m256i levels[4];
    for (int i = 0; i < 4; ++i) {
      const __m256i positive = _mm256_cmpgt_epi32(load_vector(scores + j + 8 * i), _mm256_setzero_si256());
      levels[i] = _mm256_srli_epi32(positive, 31);
    }
    Probabilities::store(levels, _mm256_setzero_si256(), row + j);
  }
  for (int64_t j = keys; j < padded; ++j) row[j] = 0;
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_SCORES_H_
