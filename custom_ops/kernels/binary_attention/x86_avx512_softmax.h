// SPDX-License-Identifier: Apache-2.0
// Softmax of integer scores, to probabilities as bytes.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_SOFTMAX_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_SOFTMAX_H_

#include <math.h>

#include "x86_avx512_codes.h"

namespace bebert {
namespace {

// Vectors whose exponentials are computed together.
constexpr int kInterleaved = 4;

// fixed_exp (docs/ops.md) of differences of scores, in fewer operations with the same results.
class ScoreExponential {
 public:
  // Where the scale is above 64, the exponential of any difference but 0 is zero, as it is for 64.
  explicit ScoreExponential(float score_scale) : scale_(_mm512_set1_ps(score_scale < 64.0f ? score_scale : 64.0f)) {
    // fixed_exp is zero for u <= -18. A difference below `lowest` may be replaced by it: u is then between -20 - 64 *
    // log2(e) and -20, where 2^n is a normal number.
    const float steps = 20.0f / ((score_scale < 64.0f ? score_scale : 64.0f) * kLog2e);
    lowest_ = -1 - static_cast<int32_t>(steps < 1e9f ? steps : 1e9f);
  }

  int32_t lowest() const { return lowest_; }

  // Differences, >= lowest, become 2^23 + their exponentials. The steps of several vectors take turns, as each would
  // wait for the one before it.
  template <int kVectors>
  void operator()(const __m512i (&differences)[kVectors], __m512 (&e)[kVectors]) const {
    // The sum with 1.5 * 2^23 rounds to an even integer as rne does, and leaves n + 142 in the lowest bits.
    const __m512 shifter = _mm512_set1_ps(12582912.0f + 142.0f);
    __m512 shifted[kVectors], f[kVectors], m[kVectors];
    const auto each = [](__m512(&x)[kVectors], auto value) {
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        x[v] = value(v);
        BEBERT_KEEP(x[v]);  // or the compiler would finish one vector before the next
      }
    };
    const auto horner = [&](float c) { each(m, [&](int v) { return multiply_add(m[v], f[v], c); }); };
    each(f, [&](int v) { return _mm512_mul_ps(_mm512_cvtepi32_ps(differences[v]), scale_); });
    each(f, [&](int v) { return _mm512_mul_ps(f[v], _mm512_set1_ps(kLog2e)); });
    each(shifted, [&](int v) { return _mm512_add_ps(f[v], shifter); });
    // f = u - n; half of the subtractions as fused ones, which use the units of multiplication.
    each(f, [&](int v) { return _mm512_fmsub_ps(f[v], _mm512_set1_ps(1.0f), _mm512_sub_ps(shifted[v], shifter)); });
    each(m, [&](int v) { return multiply_add(_mm512_set1_ps(0.001326472731307149f), f[v], 0.009671512991189957f); });
    horner(0.05550733581185341f);
    horner(0.24022242426872253f);
    horner(0.6931470036506653f);
    horner(1.0f);
    // 2^(15 + n), with which the product is exact; the sum with 2^23 rounds it to an integer.
    each(e, [&](int v) {
      const __m512 power = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(shifted[v]), 23));
      return _mm512_fmadd_ps(m[v], power, _mm512_set1_ps(8388608.0f));
    });
  }

 private:
  static constexpr float kLog2e = 1.4426950408889634f;
  __m512 scale_;
  int32_t lowest_;
};

// What softmax needs of kRows queries.
struct ScoreRows {
  int32_t* scores;  // [kRows, stride]
  int64_t keys, stride;
  alignas(64) int64_t largest[kRows];
  float r[kRows];

  // From sixteen lanes a query.
  void reduce_largest(const __m512i (&lanes)[kRows]) {
    const auto most = [](__m512i a, __m512i b) { return _mm512_max_epi32(a, b); };
    const __m512i words = reduce_words(lanes, most);
    _mm512_store_si512(largest, most(words, _mm512_srli_epi64(words, 32)));
  }

  // Scores become 2^23 + their exponentials, and r is set. The sum of at most kMaximumKeys exponentials of 2^15 is
  // below 2^31.
  void exponentiate(const ScoreExponential& exponential, float probability_inverse_step) {
    const __m512i lowest = _mm512_set1_epi32(exponential.lowest());
    __m512i sums[kRows];
    for (int first = 0; first < kRows; first += kInterleaved) {
      for (int t = first; t < first + kInterleaved; ++t) sums[t] = _mm512_setzero_si512();
      for (int64_t j = 0; j < keys; j += 16) {
        __m512i differences[kInterleaved];
        __m512 e[kInterleaved];
        BEBERT_UNROLL
        for (int t = 0; t < kInterleaved; ++t) {
          const __m512i most_of_row = _mm512_set1_epi32(static_cast<int32_t>(largest[first + t]));
          differences[t] = _mm512_sub_epi32(_mm512_load_si512(scores + (first + t) * stride + j), most_of_row);
          differences[t] = _mm512_max_epi32(differences[t], lowest);
        }
        exponential(differences, e);
        if (j + 16 > keys) {
          for (__m512& part : e) part = _mm512_mask_mov_ps(_mm512_set1_ps(8388608.0f), first_lanes(keys - j), part);
        }
        BEBERT_UNROLL
        for (int t = 0; t < kInterleaved; ++t) {
          _mm512_store_ps(scores + (first + t) * stride + j, e[t]);
          sums[first + t] = _mm512_add_epi32(sums[first + t], _mm512_castps_si512(e[t]));
        }
      }
    }
    // The bits of 2^23 + e are those of 2^23 plus e. Sums wrap around.
    const uint32_t excess = 0x4b000000u * static_cast<uint32_t>(round_up(keys, 16));
    __m512i total = reduce_words(sums, [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); });
    total = _mm512_add_epi32(total, _mm512_srli_epi64(total, 32));
    inverse_sums(_mm512_sub_epi32(total, _mm512_set1_epi32(static_cast<int32_t>(excess))), probability_inverse_step, r);
  }

  // The same where scores are floats: those of row t, plus constants[t], times the scale, plus biases[t].
  void exponentiate_biased(const int32_t (&constants)[kRows], const float* const (&biases)[kRows], float score_scale,
                           float probability_inverse_step) {
    const __m512 scale = _mm512_set1_ps(score_scale), none = _mm512_set1_ps(-INFINITY);
    __m512i sums[kRows];
    for (int t = 0; t < kRows; ++t) {
      int32_t* row = scores + t * stride;
      const __m512i constant = _mm512_set1_epi32(constants[t]);
      __m512 largest_lanes = none;
      for (int64_t j = 0; j < keys; j += 16) {
        const __m512i dot = _mm512_add_epi32(_mm512_load_si512(row + j), constant);
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), scale);
        const __m512 score = _mm512_add_ps(scaled, _mm512_loadu_ps(biases[t] + j));
        const __m512 known = _mm512_mask_mov_ps(none, first_lanes(keys - j), score);
        _mm512_store_ps(row + j, known);
        largest_lanes = _mm512_max_ps(largest_lanes, known);
      }
      const __m512 most = _mm512_set1_ps(_mm512_reduce_max_ps(largest_lanes));
      sums[t] = _mm512_setzero_si512();
      for (int64_t j = 0; j < keys; j += 16) {
        const __m512i e = fixed_exp(_mm512_sub_ps(_mm512_load_ps(row + j), most));  // of -infinity: 0
        _mm512_store_si512(row + j, _mm512_add_epi32(e, _mm512_set1_epi32(0x4b000000)));
        sums[t] = _mm512_add_epi32(sums[t], e);
      }
    }
    __m512i total = reduce_words(sums, [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); });
    total = _mm512_add_epi32(total, _mm512_srli_epi64(total, 32));
    inverse_sums(total, probability_inverse_step, r);
  }

  // Probabilities as level bytes, [kRows, stride], by the way that their range allows.
  void to_probabilities(CodeType code, float probability_inverse_step, uint8_t* rows) const {
    if (probability_inverse_step >= 0 && probability_inverse_step <= 1073741824.0f) {
      quantize(code, rows);
    } else {
      quantize_any(code, rows);
    }
  }

  // Where z is in 0 .. 2^30.
  void quantize(CodeType code, uint8_t* rows) const {
    const CodeRange range(code);
    const __m512i high = _mm512_set1_epi8(static_cast<char>(code.high));
    const __m512i low = _mm512_set1_epi8(static_cast<char>(code.low));
    const __m512i step = _mm512_set1_epi8(static_cast<char>(code.high - code.low));
    // Packing leaves the four int32 of lane i of vector v at lane v of lane i.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int t = 0; t < kRows; ++t) {
      // e * r in one rounding: both products are exact before the sum.
      const __m512 factor = _mm512_set1_ps(r[t]), offset = _mm512_set1_ps(-8388608.0f * r[t]);
      for (int64_t j = 0; j < keys; j += 64) {
        const int32_t* e = scores + t * stride + j;
        const auto z = [&](int v) {
          return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_load_si512(e + 16 * v)), factor, offset);
        };
        __m512i levels;
        if (code.width == 8) {
          const __m512i low01 = _mm512_packs_epi32(_mm512_cvtps_epi32(z(0)), _mm512_cvtps_epi32(z(1)));
          const __m512i high01 = _mm512_packs_epi32(_mm512_cvtps_epi32(z(2)), _mm512_cvtps_epi32(z(3)));
          const __m512i packed = _mm512_min_epu8(_mm512_packus_epi16(low01, high01), high);
          levels = _mm512_permutexvar_epi32(order, _mm512_sub_epi8(packed, low));
        } else {
          uint64_t bits = 0;
          for (int v = 0; v < 4; ++v) bits |= static_cast<uint64_t>(range.bits(0xffff, z(v))) << (16 * v);
          levels = _mm512_maskz_mov_epi8(bits, step);
        }
        _mm512_store_si512(rows + t * stride + j, levels);
      }
    }
  }

  // For any z.
  void quantize_any(CodeType code, uint8_t* rows) const {
    const CodeRange range(code);
    const __m128i step = _mm_set1_epi8(static_cast<char>(code.high - code.low));
    for (int t = 0; t < kRows; ++t) {
      for (int64_t j = 0; j < keys; j += 16) {
        const __m512 shifted = _mm512_castsi512_ps(_mm512_load_si512(scores + t * stride + j));
        const __m512 z = _mm512_mul_ps(_mm512_sub_ps(shifted, _mm512_set1_ps(8388608.0f)), _mm512_set1_ps(r[t]));
        const __m128i levels =
            code.width == 8 ? _mm512_cvtepi32_epi8(range.levels(z)) : _mm_maskz_mov_epi8(range.bits(0xffff, z), step);
        _mm_store_si128(reinterpret_cast<__m128i*>(rows + t * stride + j), levels);
      }
    }
  }
};

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_SOFTMAX_H_
