// SPDX-License-Identifier: Apache-2.0
// Reading the codes of one head. Included by arm64_neon.cc and arm64_dotprod.cc only.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_CODES_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_CODES_H_

#include "../arm64_neon_arithmetic.h"
#include "binary_attention.h"

namespace bebert {
namespace {

// Channels of a head and keys of a sequence; more are left to the scalar path.
constexpr int64_t kMaximumLength = 32768;

// Queries that are worked on together.
constexpr int64_t kRows = 4;

// Codes become signed bytes: value = byte + byte_offset. Only uint8 needs an offset.
inline int32_t byte_offset(CodeType code) { return code.high > 127 ? 128 : 0; }

inline int32_t largest_byte(CodeType code) {
  const int32_t low = byte_offset(code) - code.low, high = code.high - byte_offset(code);
  return low > high ? low : high;
}

// How a probability is stored: add + level (width 8), or one of two bytes (width 1).
struct ProbabilityBytes {
  CodeType code;
  uint8_t add, zero, one;
};

// Rows of signed bytes, `stride` apart; bytes after the last channel and rows after the last code are zero. `stride` is
// a multiple of 16.
inline void unpack(const HeadCodes& codes, CodeType code, int64_t head_size, int64_t stride, int64_t rows,
                   uint8_t* out) {
  const uint8x16_t low = vdupq_n_u8(static_cast<uint8_t>(code.low - byte_offset(code)));
  const uint8x16_t high = vdupq_n_u8(static_cast<uint8_t>(code.high - byte_offset(code)));
  for (int64_t i = 0; i < rows; ++i, out += stride) {
    const uint8_t* row = codes.rows + i * codes.row_bytes;
    for (int64_t d = 0; d < stride; d += 16) {
      const int64_t count = i < codes.count ? head_size - d : 0;
      uint8x16_t bytes = vdupq_n_u8(0);
      if (count > 0) {
        if (code.width == 8) {
          bytes = vaddq_u8(load_bytes(row + codes.channel + d, count), low);
        } else {
          const uint64_t bits = load_bits(row, codes.channel + d, smaller(count, 16));
          const uint8x16_t both =
              vcombine_u8(vdup_n_u8(static_cast<uint8_t>(bits)), vdup_n_u8(static_cast<uint8_t>(bits >> 8)));
          bytes = vbslq_u8(vtstq_u8(both, lane_bits()), high, low);
        }
        if (count < 16) bytes = vandq_u8(bytes, first_lanes(count));
      }
      vst1q_u8(out + d, bytes);
    }
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_CODES_H_
