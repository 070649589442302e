// SPDX-License-Identifier: Apache-2.0
// 8-bit codes by sdot, eight vector operations for 128 products where look-ups in two passes take 8.6 and tables.
//
// A weight is a byte of all ones (-1) for +1 and zero for -1: the sum of w * x is minus twice the sum of these
// products, minus the sum of all x. Codes are centred: x = level - 128.
//
// Weights: for each 16 output channels and each 32 channels of K, 4 bytes of each of the 16 rows; bit j of byte q is
// channel 4 j + q, so that one operation expands a quad. They are expanded for all tokens of a task, some words of K at
// a time.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_DOTPROD_BYTES_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_DOTPROD_BYTES_H_

#include "../arm64_dotprod_quads.h"
#include "arm64_neon_tile.h"

namespace bebert {
namespace {

constexpr int64_t kDotChannels = 16;

// Channels of K whose weights are expanded together: 8 KB.
constexpr int64_t kDotChunk = 512;

inline bool is_wide(CodeType input) { return input.high - input.low > 15; }

inline int64_t dot_table_bytes(int64_t k) { return kTableHeader + 64 * words_of_row(k); }

// Bits q, q + 4, .. q + 28 of a word.
inline uint8_t every_fourth_bit(uint32_t word, int q) {
  uint32_t x = word >> q & 0x11111111;
  x = (x | x >> 3) & 0x03030303;
  x = (x | x >> 6) & 0x000f000f;
  return static_cast<uint8_t>(x | x >> 12);
}

void interleave_dot(const uint8_t* rows, int64_t n, int64_t k, CodeType input, uint8_t* out) {
  const auto store = [](const uint8_t* from, uint8_t* to) {
    uint32_t word;
    memcpy(&word, from, sizeof(word));
    for (int q = 0; q < 4; ++q) to[q] = every_fourth_bit(word, q);
  };
  interleave_bytes(rows, n, k, kDotChannels, 4, store, out);
  store_channel_starts(rows, n, k, input.low + 128, out);
}

// For each token: the header, then its centred codes; zero after the last.
void build_dot_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType, uint8_t* tables) {
  for (int64_t t = 0; t < tokens; ++t, codes += k, tables += dot_table_bytes(k)) {
    int32x4_t sum = vdupq_n_s32(0);
    for (int64_t c = 0; c < 64 * words_of_row(k); c += 16) {
      const int64_t left = k - c > 0 ? k - c : 0;
      uint8x16_t x = veorq_u8(load_bytes(codes + c, left), vdupq_n_u8(128));
      if (left < 16) x = vandq_u8(x, first_lanes(left));
      vst1q_u8(tables + kTableHeader + c, x);
      sum = vpadalq_s16(sum, vpaddlq_s8(vreinterpretq_s8_u8(x)));
    }
    store_start(-vaddvq_s32(sum), tables);
  }
}

inline void expand_weights(const uint8_t* weights, int64_t channels, uint8_t* out) {
  for (int64_t i = 0; i < channels; i += 32, weights += 64) {
    for (int j = 0; j < 8; ++j, out += 64) {
      const uint8x16_t bit = vdupq_n_u8(static_cast<uint8_t>(1 << j));
      for (int v = 0; v < 4; ++v) vst1q_u8(out + 16 * v, vtstq_u8(vld1q_u8(weights + 16 * v), bit));
    }
  }
}

template <int kTokens>
BEBERT_NOINLINE void dot_tile(const uint8_t* codes, int64_t token_bytes, const uint8_t* weights, int64_t channels,
                              Sums sums) {
  int32x4_t totals[kTokens][4];
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < 4; ++v) totals[t][v] = vdupq_n_s32(0);
  }
  add_quads(codes, token_bytes, channels, weights, totals);
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < 4; ++v) {
      int32_t* sum = sums[t] + 4 * v;
      vst1q_s32(sum, vsubq_s32(vld1q_s32(sum), vaddq_s32(totals[t][v], totals[t][v])));
    }
  }
}

void multiply_dot(const PackedBinaryMatMulTask& task, int64_t channel, Sums sums) {
  const int64_t length = 64 * words_of_row(task.k), token_bytes = dot_table_bytes(task.k);
  start_sums(task, token_bytes, channel, sums);
  alignas(64) uint8_t expanded[kDotChunk * kDotChannels];
  for (int64_t c = 0; c < kChannelBlock; c += kDotChannels) {
    const uint8_t* weights = task.weights + weight_bytes(channel + c, task.k);
    for (int64_t i = 0; i < length; i += kDotChunk) {
      const int64_t count = length - i < kDotChunk ? length - i : kDotChunk;
      expand_weights(weights + i / 8 * kDotChannels, count, expanded);
      for_each_tile(task.tokens, [&](auto token_count, int64_t t) {
        const uint8_t* codes = static_cast<const uint8_t*>(task.tables) + t * token_bytes + kTableHeader + i;
        dot_tile<decltype(token_count)::kTokens>(codes, token_bytes, expanded, count,
                                                 reinterpret_cast<Sums>(sums[t] + c));
      });
    }
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_DOTPROD_BYTES_H_
