// SPDX-License-Identifier: Apache-2.0
// Levels of codes of width 8 by the exact sum alone: for codes of at most 16 levels and sums that fit int16.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_LEVELS_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_LEVELS_H_

#include "../x86_avx512_intrinsics.h"
#include "kernel.h"

namespace bebert {
namespace {

constexpr int kLevelChannels = 32;
constexpr int kMostThresholds = 15, kMostFalling = 2;

// Of 32 output channels. A level is the number of rising thresholds that the sum is above, never fewer for a larger
// one, and of falling thresholds that it is below: GELU falls before it rises.
struct alignas(64) LevelThresholds {
  static constexpr int16_t kAlwaysAbove = INT16_MIN, kNeverAbove = INT16_MAX, kNeverBelow = INT16_MIN;

  int16_t rising[kMostThresholds][kLevelChannels];
  int16_t falling[kMostFalling][kLevelChannels];

  // Blocks that keep the float arithmetic.
  void exclude() { falling[0][0] = INT16_MAX; }
  bool excluded() const { return falling[0][0] == INT16_MAX; }
};

inline int64_t level_blocks(int64_t n) { return (n + kLevelChannels - 1) / kLevelChannels; }

// Binary search with the thresholds in registers, for codes of at most 4 or 16 levels.
template <int kLevels, bool kFalls>
struct LevelSearch {
  __m512i rising[kLevels - 1], falling[kMostFalling];

  explicit LevelSearch(const LevelThresholds& thresholds) {
    for (int i = 0; i < kMostFalling; ++i) falling[i] = _mm512_load_si512(thresholds.falling[i]);
    BEBERT_UNROLL
    for (int i = 0; i < kLevels - 1; ++i) rising[i] = _mm512_load_si512(thresholds.rising[i]);
  }

  // The levels of 32 sums.
  __m256i levels(const int32_t* sums) const {
    const __m512i even = _mm512_load_si512(kEvenWords);
    const __m512i sum = _mm512_permutex2var_epi16(_mm512_load_si512(sums), even, _mm512_load_si512(sums + 16));
    __m512i candidates[kLevels - 1];
    BEBERT_UNROLL
    for (int i = 0; i < kLevels - 1; ++i) candidates[i] = rising[i];
    __m512i level = _mm512_setzero_si512();
    if (kFalls) {
      const __m512i one = _mm512_set1_epi16(1);
      for (const __m512i& threshold : falling) {
        level = _mm512_mask_add_epi16(level, _mm512_cmpgt_epi16_mask(threshold, sum), level, one);
      }
    }
    // Of `half` * 2 - 1 candidates the middle one decides which half remains.
    BEBERT_UNROLL
    for (int half = kLevels / 2; half > 0; half /= 2) {
      const __mmask32 above = _mm512_cmpgt_epi16_mask(sum, candidates[half - 1]);
      level = _mm512_mask_add_epi16(level, above, level, _mm512_set1_epi16(static_cast<int16_t>(half)));
      BEBERT_UNROLL
      for (int i = 0; i < half - 1; ++i) {
        candidates[i] = _mm512_mask_blend_epi16(above, candidates[i], candidates[half + i]);
      }
    }
    return _mm512_cvtepi16_epi8(level);
  }

 private:
  alignas(64) static constexpr int16_t kEvenWords[32] = {0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20,
                                                         22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42,
                                                         44, 46, 48, 50, 52, 54, 56, 58, 60, 62};
};

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_LEVELS_H_
