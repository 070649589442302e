// SPDX-License-Identifier: Apache-2.0
// Quantization of whole rows, 64 channels at a time. Included by the x86_avx512.cc files only.
#ifndef BEBERT_EDGE_KERNELS_X86_AVX512_ROWS_H_
#define BEBERT_EDGE_KERNELS_X86_AVX512_ROWS_H_

#include "x86_avx512_arithmetic.h"

namespace bebert {
namespace {

// Levels of 64 channels as bytes.
inline __m512i level_bytes(const CodeRange& range, const __m512 (&z)[4]) {
  const auto value = [&](int v) {
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(z[v], range.low), range.high));
  };
  const __m512i low = _mm512_packs_epi32(range.low_value, range.low_value);
  const __m512i first = _mm512_sub_epi16(_mm512_packs_epi32(value(0), value(1)), low);
  const __m512i second = _mm512_sub_epi16(_mm512_packs_epi32(value(2), value(3)), low);
  // Packing leaves the four int32 of lane i of vector v at lane v of lane i.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(first, second));
}

// kRows rows of codes of one quantizer, `row_bytes` apart, which share the loads of its parameters. load(channel,
// lanes, y) gives the values of sixteen channels of all rows. Codes of width 1 are written up to a multiple of 64
// channels.
template <int kRows, class Load>
class RowQuantizer {
 public:
  RowQuantizer(const Quantizer& quantizer, const CodeRange& range, int64_t channels, uint8_t* codes, int64_t row_bytes,
               const Load& load)
      : quantizer_(quantizer), range_(range), channels_(channels), row_bytes_(row_bytes), codes_(codes), load_(load) {}

  void run() const {
    if (quantizer_.code.width == 1) {
      run_blocks<true>();
    } else {
      run_blocks<false>();
    }
  }

 private:
  template <bool kBits>
  void run_blocks() const {
    int64_t c = 0;
    for (; c + 64 <= channels_; c += 64) block<kBits, true>(c);
    if (c < channels_) block<kBits, false>(c);
  }

  template <bool kBits, bool kWhole>
  void block(int64_t begin) const {
    __m512 z[kRows][4];
    BEBERT_UNROLL
    for (int v = 0; v < 4; ++v) {
      const int64_t c = begin + 16 * v;
      const __mmask16 lanes = kWhole ? 0xffff : c < channels_ ? first_lanes(channels_ - c) : 0;
      __m512 y[kRows];
      load_(c, lanes, y);
      __m512 shift = _mm512_maskz_loadu_ps(lanes, quantizer_.shift + c);
      __m512 inverse_step = _mm512_maskz_loadu_ps(lanes, quantizer_.inverse_step + c);
      BEBERT_KEEP(shift);
      BEBERT_KEEP(inverse_step);
      BEBERT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        z[r][v] = _mm512_mul_ps(_mm512_add_ps(y[r], shift), inverse_step);
        // Sixteen bits each, up to the end of the padding of a row.
        if (kBits) store_mask(codes_ + r * row_bytes_ + c / 8, range_.bits(lanes, z[r][v]));
      }
    }
    if (kBits) return;
    BEBERT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      uint8_t* codes = codes_ + r * row_bytes_ + begin;
      const __m512i bytes = level_bytes(range_, z[r]);
      if (kWhole) {
        _mm512_storeu_si512(codes, bytes);
      } else {
        _mm512_mask_storeu_epi8(codes, (__mmask64{1} << (channels_ - begin)) - 1, bytes);
      }
    }
  }

  const Quantizer& quantizer_;
  const CodeRange& range_;
  int64_t channels_, row_bytes_;
  uint8_t* codes_;
  const Load& load_;
};

template <int kRows, class Load>
inline void quantize_rows(const Quantizer& quantizer, const CodeRange& range, int64_t channels, uint8_t* codes,
                          int64_t row_bytes, const Load& load) {
  RowQuantizer<kRows, Load>(quantizer, range, channels, codes, row_bytes, load).run();
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_X86_AVX512_ROWS_H_
