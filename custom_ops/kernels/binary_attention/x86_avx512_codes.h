// SPDX-License-Identifier: Apache-2.0
// Reading the codes of one head. Included by x86_avx512.cc only.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_CODES_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_CODES_H_

#include "../x86_avx512_arithmetic.h"
#include "binary_attention.h"

namespace bebert {
namespace {

// Channels of a head and keys of a sequence; more are left to the scalar path.
constexpr int64_t kMaximumLength = 32768;

// Queries that are worked on together.
constexpr int64_t kRows = 4;

inline int64_t round_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

inline __mmask64 first_bytes(int64_t count) { return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1; }

// `count` <= 64 bits of a bit-packed row from `channel` on. Rows are whole words.
inline uint64_t load_bits(const uint8_t* row, int64_t channel, int64_t count) {
  const int64_t offset = channel % 64;
  uint64_t word, next;
  memcpy(&word, row + channel / 64 * 8, sizeof(word));
  word >>= offset;
  if (offset + count > 64) {
    memcpy(&next, row + channel / 64 * 8 + 8, sizeof(next));
    word |= next << (64 - offset);
  }
  return word & first_bytes(count);
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

// Rows of bytes, `stride` apart; bytes after the last channel and rows after the last code are zero.
inline void unpack(const HeadCodes& codes, CodeType code, ByteMap map, int64_t head_size, int64_t stride, int64_t rows,
                   uint8_t* out) {
  const __m512i add = _mm512_set1_epi8(static_cast<char>(map.add));
  const __m512i zero = _mm512_set1_epi8(static_cast<char>(map.zero));
  const __m512i one = _mm512_set1_epi8(static_cast<char>(map.one));
  for (int64_t i = 0; i < rows; ++i, out += stride) {
    const uint8_t* row = codes.rows + i * codes.row_bytes;
    for (int64_t d = 0; d < stride; d += 64) {
      const int64_t count = i < codes.count ? smaller(64, head_size - d) : 0;
      __m512i bytes = _mm512_setzero_si512();
      if (count > 0) {
        const __mmask64 lanes = first_bytes(count);
        if (code.width == 8) {
          bytes = _mm512_maskz_add_epi8(lanes, _mm512_maskz_loadu_epi8(lanes, row + codes.channel + d), add);
        } else {
          const uint64_t bits = load_bits(row, codes.channel + d, count);
          bytes = _mm512_maskz_mov_epi8(lanes, _mm512_mask_mov_epi8(zero, bits, one));
        }
      }
      _mm512_mask_storeu_epi8(out + d, first_bytes(stride - d), bytes);
    }
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_CODES_H_
