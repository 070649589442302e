// SPDX-License-Identifier: Apache-2.0
// Finds, when a session is created, the thresholds of x86_avx512_levels.h.
//
// All float operations between a sum and its level are monotone, but for GELU: where scale and inverse step are
// positive, bisection finds each threshold.
//
// The real GELU falls up to kGeluTurn and rises from there on. The float z of a sum is within `margin` of the z that
// the real GELU gives for the same float y. On either side of the turn bisection finds some sum where the level
// changes; those around it are tried one by one, and the z of the last tried on each side must be beyond the tie by two
// margins. Then the real z there is beyond it by one, so is that of every sum farther away, and their float z are on
// the right side of the tie.
//
// Steps so small that codes are signs, that of 0 being 0, leave no such margin: there every sum is tried.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_FIND_LEVELS_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_FIND_LEVELS_H_

#include "x86_avx512_epilogue.h"
#include "x86_avx512_levels.h"

namespace bebert {
namespace {

// Sums tried on each side of a threshold.
constexpr int kTried = 6;

// All sums are tried where they are at most this many, for codes of few levels.
constexpr int64_t kMostSums = 4096;
constexpr int kFewThresholds = 2;

constexpr float kGeluTurn = -0.7517916f, kGeluLeast = -0.16997121f;

// Of sixteen output channels, for the sums from `first` to before `past`.
template <Activation kActivation>
struct ThresholdSearch {
  __m512 scale, bias, shift, inverse_step;
  CodeRange range;
  __m512i first, past;

  __m512 y(__m512i sum) const { return _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale), bias); }
  __m512 z_of(__m512 activated) const { return _mm512_mul_ps(_mm512_add_ps(activated, shift), inverse_step); }
  __m512 z(__m512i sum) const { return z_of(activate<kActivation>(y(sum))); }
  __mmask16 above(__m512i sum, __m512i level) const { return _mm512_cmpgt_epi32_mask(range.levels(z(sum)), level); }

  // Where every operation is finite or monotone.
  __mmask16 ordinary() const {
    __mmask16 lanes = _mm512_cmp_ps_mask(scale, _mm512_setzero_ps(), _CMP_GT_OQ);
    lanes = _mm512_mask_cmp_ps_mask(lanes, inverse_step, _mm512_setzero_ps(), _CMP_GT_OQ);
    const __m512 most = _mm512_set1_ps(3.402823466e38f);
    lanes = _mm512_mask_cmp_ps_mask(lanes, scale, most, _CMP_LE_OQ);
    lanes = _mm512_mask_cmp_ps_mask(lanes, inverse_step, most, _CMP_LE_OQ);
    lanes = _mm512_mask_cmp_ps_mask(lanes, _mm512_abs_ps(bias), most, _CMP_LE_OQ);
    return _mm512_mask_cmp_ps_mask(lanes, _mm512_abs_ps(shift), most, _CMP_LE_OQ);
  }

  // The first sum from `begin` to before `end` that meets a condition once met by all after it, or `end`.
  template <class Condition>
  static __m512i first_where(__m512i begin, __m512i end, Condition condition) {
    for (;;) {
      const __mmask16 open = _mm512_cmplt_epi32_mask(begin, end);
      if (!open) return begin;
      const __m512i middle = _mm512_srai_epi32(_mm512_add_epi32(begin, end), 1);
      const __mmask16 met = condition(middle);
      end = _mm512_mask_mov_epi32(end, open & met, middle);
      begin = _mm512_mask_add_epi32(begin, open & ~met, middle, _mm512_set1_epi32(1));
    }
  }

  // Whether the sums from `begin` to before `end` are above `level` from `threshold` on and not before (`rises`), or
  // before and not from there on. Monotone but for the margin.
  __mmask16 certain(__m512i begin, __m512i end, __m512i threshold, __m512i level, __m512 margin, bool rises) const {
    const __m512 steps = _mm512_cvtepi32_ps(_mm512_add_epi32(level, range.low_value));
    const __m512 tie = _mm512_add_ps(steps, _mm512_set1_ps(0.5f)), margins = _mm512_add_ps(margin, margin);
    __mmask16 lanes = 0xffff;
    for (int i = -kTried - 1; i <= kTried; ++i) {
      const __m512i sum = _mm512_add_epi32(threshold, _mm512_set1_epi32(i));
      const __mmask16 inside = _mm512_cmple_epi32_mask(begin, sum) & _mm512_cmplt_epi32_mask(sum, end);
      const bool should = (i >= 0) == rises;
      const __mmask16 is = above(sum, level);
      lanes &= static_cast<__mmask16>(~inside | (should ? is : ~is));
      if (-kTried <= i && i < kTried) continue;
      const __m512 beyond = should ? _mm512_sub_ps(z(sum), tie) : _mm512_sub_ps(tie, z(sum));
      lanes &= static_cast<__mmask16>(~inside | _mm512_cmp_ps_mask(beyond, margins, _CMP_GT_OQ));
    }
    return lanes;
  }

  // Whether every `step`-th sum has the level that the thresholds of sixteen channels give.
  __mmask16 right_everywhere(const LevelThresholds& block, int at, int32_t step) const {
    const auto load = [at](const int16_t* row) {
      return _mm512_cvtepi16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(row + at)));
    };
    __m512i rising[kFewThresholds], falling[kMostFalling];
    for (int i = 0; i < kFewThresholds; ++i) rising[i] = load(block.rising[i]);
    for (int i = 0; i < kMostFalling; ++i) falling[i] = load(block.falling[i]);
    __mmask16 lanes = _mm512_cmple_epi32_mask(rising[0], rising[1]);
    const __m512i one = _mm512_set1_epi32(1), steps = _mm512_set1_epi32(step);
    for (__m512i sum = first; _mm512_cmplt_epi32_mask(sum, past); sum = _mm512_add_epi32(sum, steps)) {
      __m512i level = _mm512_setzero_si512();
      for (const __m512i& t : rising) level = _mm512_mask_add_epi32(level, _mm512_cmpgt_epi32_mask(sum, t), level, one);
      for (const __m512i& t : falling)
        level = _mm512_mask_add_epi32(level, _mm512_cmpgt_epi32_mask(t, sum), level, one);
      lanes &= _mm512_cmpeq_epi32_mask(level, range.levels(z(sum)));
    }
    return lanes;
  }

  // The distance between the float z and that of the real GELU where |z| is below 64: elsewhere no tie is near. The
  // error of GELU is at most 2e-6 for |y| up to 8 and 2e-7 |y| above (docs/ops.md), where y is at most 64 steps and the
  // shift. Roundings are at most 2^-23 |z|, and so less than 1e-5.
  __m512 gelu_margin() const {
    const __m512i last = _mm512_sub_epi32(past, _mm512_set1_epi32(1));
    const __m512 magnitude = _mm512_max_ps(_mm512_abs_ps(y(first)), _mm512_abs_ps(y(last)));
    const __m512 relevant = _mm512_add_ps(_mm512_div_ps(_mm512_set1_ps(64), inverse_step), _mm512_abs_ps(shift));
    const __m512 error =
        _mm512_fmadd_ps(_mm512_min_ps(magnitude, relevant), _mm512_set1_ps(3e-7f), _mm512_set1_ps(2.002e-6f));
    return _mm512_fmadd_ps(inverse_step, error, _mm512_set1_ps(1e-5f));
  }
};

inline void store_thresholds(int16_t* thresholds, __m512i v) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(thresholds), _mm512_cvtepi32_epi16(v));
}

// The thresholds of sixteen channels, at the same channel of each row. Returns the channels that they are right for.
// `step`: of the sums, where all may be tried; else 0.
template <Activation kActivation>
__mmask16 find_thresholds(const ThresholdSearch<kActivation>& search, int thresholds, int32_t, LevelThresholds* block,
                          int at) {
  const __m512i one = _mm512_set1_epi32(1);
  for (int i = 0; i < thresholds; ++i) {
    const __m512i level = _mm512_set1_epi32(i);
    const __m512i threshold =
        search.first_where(search.first, search.past, [&](__m512i sum) { return search.above(sum, level); });
    store_thresholds(block->rising[i] + at, _mm512_sub_epi32(threshold, one));
  }
  return search.ordinary();
}

template <>
__mmask16 find_thresholds(const ThresholdSearch<Activation::gelu>& search, int thresholds, int32_t step,
                          LevelThresholds* block, int at) {
  const __m512i one = _mm512_set1_epi32(1);
  const __m512 margin = search.gelu_margin();
  const __mmask16 ordinary = search.ordinary();
  __mmask16 lanes = _mm512_mask_cmp_ps_mask(ordinary, margin, _mm512_set1_ps(0.25f), _CMP_LT_OQ);
  if (!lanes && (!step || !ordinary)) return 0;
  const __m512i turn = search.first_where(search.first, search.past, [&](__m512i sum) {
    return _mm512_cmp_ps_mask(search.y(sum), _mm512_set1_ps(kGeluTurn), _CMP_GE_OQ);
  });
  // No sum has a lower level than this.
  const __m512i least = search.range.levels(_mm512_sub_ps(search.z_of(_mm512_set1_ps(kGeluLeast)), margin));
  for (int i = 0; i < thresholds; ++i) {
    const __m512i level = _mm512_set1_epi32(i);
    const __mmask16 always = _mm512_cmplt_epi32_mask(level, least);
    const __m512i threshold =
        search.first_where(turn, search.past, [&](__m512i sum) { return search.above(sum, level); });
    lanes &= static_cast<__mmask16>(always | search.certain(turn, search.past, threshold, level, margin, true));
    const __m512i always_above = _mm512_set1_epi32(LevelThresholds::kAlwaysAbove);
    store_thresholds(block->rising[i] + at,
                     _mm512_mask_mov_epi32(_mm512_sub_epi32(threshold, one), always, always_above));
  }
  // Before the turn levels fall to the least one.
  __m512i level = least;
  for (auto& falling : block->falling) {
    const __m512i threshold =
        search.first_where(search.first, turn, [&](__m512i sum) { return _knot_mask16(search.above(sum, level)); });
    const __mmask16 never = _mm512_cmpge_epi32_mask(level, _mm512_set1_epi32(thresholds));
    lanes &= static_cast<__mmask16>(never | search.certain(search.first, turn, threshold, level, margin, false));
    store_thresholds(falling + at, threshold);
    level = _mm512_add_epi32(level, one);
  }
  const __m512i most = search.range.levels(_mm512_add_ps(search.z(search.first), _mm512_add_ps(margin, margin)));
  lanes &= static_cast<__mmask16>(_mm512_cmpeq_epi32_mask(search.first, turn) | _mm512_cmple_epi32_mask(most, level));
  if (!step || lanes == ordinary) return lanes;
  return lanes | (ordinary & search.right_everywhere(*block, at, step));
}

// Returns the output channels whose blocks are not excluded.
template <Activation kActivation>
int64_t find_levels(const PackedBinaryMatMulTask& task, LevelThresholds* blocks) {
  const int32_t bound = static_cast<int32_t>(largest_sum(task.k, task.input));
  const int thresholds = task.output.high - task.output.low;
  const int32_t parity = task.input.width == 1 && task.input.low < 0 ? 2 : 1;  // of sums of signs
  const int32_t step = thresholds <= kFewThresholds && 2 * int64_t{bound} / parity < kMostSums ? parity : 0;
  int64_t found = 0;
  for (int64_t channel = 0; channel < task.n; channel += kLevelChannels, ++blocks) {
    for (int i = thresholds; i < kMostThresholds; ++i) {
      for (int16_t& threshold : blocks->rising[i]) threshold = LevelThresholds::kNeverAbove;
    }
    for (auto& falling : blocks->falling) {
      for (int16_t& threshold : falling) threshold = LevelThresholds::kNeverBelow;
    }
    bool all = true;
    for (int at = 0; at < kLevelChannels; at += 16) {
      const int64_t left = task.n - channel - at;
      const __mmask16 lanes = left > 0 ? first_lanes(left) : __mmask16{0};
      const auto load = [&](const float* p) { return _mm512_maskz_loadu_ps(lanes, p + channel + at); };
      const ThresholdSearch<kActivation> search = {load(task.scale),
                                                   load(task.bias),
                                                   load(task.shift),
                                                   load(task.inverse_step),
                                                   CodeRange(task.output),
                                                   _mm512_set1_epi32(-bound),
                                                   _mm512_set1_epi32(bound + 1)};
      all = all && (lanes & ~find_thresholds(search, thresholds, step, blocks, at)) == 0;
    }
    if (all) {
      found += task.n - channel < kLevelChannels ? task.n - channel : kLevelChannels;
    } else {
      blocks->exclude();
    }
  }
  return found;
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_FIND_LEVELS_H_
