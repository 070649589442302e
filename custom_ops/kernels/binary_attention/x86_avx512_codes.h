// SPDX-License-Identifier: Apache-2.0
// Reading the codes of one head. Included by x86_avx512.cc only.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_CODES_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_CODES_H_

#include "../x86_avx512_rows.h"
#include "binary_attention.h"

namespace bebert {
namespace {

// Queries that are worked on together: those of one tile share the loads of keys and values; each step is done for
// several tiles, so that one need not wait for the other.
constexpr int64_t kRows = 8, kTiles = 4;

// The first `count` of 64 bytes; none if it is negative.
inline __mmask64 first_bytes(int64_t count) {
  if (count >= 64) return ~__mmask64{0};
  return count > 0 ? (__mmask64{1} << count) - 1 : 0;
}

// How a code becomes a byte: stored byte + add (width 8), or one of two (width 1).
struct ByteMap {
  int32_t add, zero, one;
};

// The level of a code as an unsigned byte: value = low + level.
inline ByteMap level_bytes(CodeType code) { return {0, 0, code.high - code.low}; }

// The value as a signed byte: value = byte + signed_offset. Only uint8 needs an offset.
inline int32_t signed_offset(CodeType code) { return code.high > 127 ? 128 : 0; }
inline ByteMap signed_bytes(CodeType code) {
  const int32_t offset = signed_offset(code);
  return {code.low - offset, code.low - offset, code.high - offset};
}

// Rows of bytes, `stride` apart; bytes after the last channel and rows after the last code are zero. Writes up to
// kUnpackExcess bytes after the last row: masked stores are slow on Zen 4.
constexpr int64_t kUnpackExcess = 63;

inline void unpack(const HeadCodes& codes, CodeType code, ByteMap map, int64_t head_size, int64_t stride, int64_t rows,
                   uint8_t* out) {
  const __m512i add = _mm512_set1_epi8(static_cast<char>(map.add));
  const __m512i zero = _mm512_set1_epi8(static_cast<char>(map.zero));
  const __m512i one = _mm512_set1_epi8(static_cast<char>(map.one));
  const int64_t count = codes.count > 0 ? smaller(rows, codes.count) : 0;
  for (int64_t d = (stride - 1) / 64 * 64; d >= 0; d -= 64) {  // so that the excess is overwritten
    const int64_t channels = head_size - d;
    const __mmask64 lanes = first_bytes(channels);
    const auto each = [=](int64_t begin, int64_t end, auto bytes) {
      for (int64_t i = begin; i < end; ++i)
        _mm512_storeu_si512(out + i * stride + d, bytes(codes.rows + i * codes.row_bytes));
    };
    if (code.width == 8) {
      each(0, count, [=](const uint8_t* row) {
        return _mm512_maskz_add_epi8(lanes, _mm512_maskz_loadu_epi8(lanes, row + codes.channel + d), add);
      });
    } else {
      each(0, count, [=](const uint8_t* row) {
        const uint64_t bits = load_bits(row, codes.channel + d, smaller(64, channels));
        return _mm512_maskz_mov_epi8(lanes, _mm512_mask_mov_epi8(zero, bits, one));
      });
    }
    each(count, rows, [](const uint8_t*) { return _mm512_setzero_si512(); });
  }
}

// Word t of the result: `op` over the eight words of rows[t], each word in its own half or quarter if `op` works on
// those.
template <class Op>
inline __m512i reduce_words(const __m512i (&rows)[kRows], Op op) {
  __m512i pairs[4], fours[2];
  for (int i = 0; i < 4; ++i) {
    pairs[i] =
        op(_mm512_unpacklo_epi64(rows[2 * i], rows[2 * i + 1]), _mm512_unpackhi_epi64(rows[2 * i], rows[2 * i + 1]));
  }
  const auto merge = [op](__m512i a, __m512i b) {
    return op(_mm512_shuffle_i64x2(a, b, _MM_SHUFFLE(2, 0, 2, 0)), _mm512_shuffle_i64x2(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
  };
  for (int i = 0; i < 2; ++i) fours[i] = merge(pairs[2 * i], pairs[2 * i + 1]);
  return merge(fours[0], fours[1]);
}

// r of docs/ops.md for each query. `sums`: the sums of its exponentials, in the lower halves of words.
inline void inverse_sums(__m512i sums, float probability_inverse_step, float (&r)[kRows]) {
  const __m256 total = _mm256_cvtepi32_ps(_mm512_cvtepi64_epi32(sums));
  _mm256_storeu_ps(r, _mm256_div_ps(_mm256_set1_ps(probability_inverse_step), total));
}

// Quantizes the contexts of sixteen channels of a head, from channel d of the head on.
class OutputChannels {
 public:
  OutputChannels(const AttentionHead& head, const CodeRange& range, int64_t d)
      : range_(range),
        codes_(head.codes),
        row_bytes_(head.codes_row_bytes),
        channel_(head.codes_channel + d),
        lanes_(first_lanes(head.config.head_size - d)),
        bits_(head.config.output.width == 1),
        // Two whole bytes of this head.
        whole_(channel_ % 8 == 0 && lanes_ == 0xffff),
        scale_(_mm512_set1_ps(head.context_scale)),
        shift_(_mm512_maskz_loadu_ps(lanes_, head.quantizer.shift + d)),
        inverse_step_(_mm512_maskz_loadu_ps(lanes_, head.quantizer.inverse_step + d)) {}

  void store(int64_t query, __m512i context) const {
    if (bits_) return store_bits(query, bits(context));
    store_bytes(codes_ + query * row_bytes_ + channel_, lanes_, range_.levels(quotient(context)));
  }

  // Codes of width 1.
  __mmask16 bits(__m512i context) const { return range_.bits(lanes_, quotient(context)); }

  void store_bits(int64_t query, __mmask16 mask) const {
    uint8_t* row = codes_ + query * row_bytes_ + channel_ / 8;
    if (whole_) return store_mask(row, mask);
    for (uint32_t bits = static_cast<uint32_t>(mask) << (channel_ % 8); bits; ++row, bits >>= 8) {
      *row = static_cast<uint8_t>(*row | bits);
    }
  }

 private:
  __m512 quotient(__m512i context) const {  // z of docs/ops.md
    const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(context), scale_);
    return _mm512_mul_ps(_mm512_add_ps(y, shift_), inverse_step_);
  }

  const CodeRange& range_;
  uint8_t* codes_;
  int64_t row_bytes_, channel_;
  __mmask16 lanes_;
  bool bits_, whole_;
  __m512 scale_, shift_, inverse_step_;
};

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_CODES_H_
