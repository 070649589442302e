// SPDX-License-Identifier: Apache-2.0
// What the products and the epilogue of the Arm paths share. Included by arm64_neon.cc and arm64_dotprod.cc only.
//
// Bounds are those of Cortex-A76 (Software Optimization Guide, PJDOC-466751330-7215): two vector pipes, and nearly all
// that is used here runs on both. custom_ops/bench/arm64_loops.py counts the instructions of the innermost loops.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_TILE_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_TILE_H_

#include <string.h>

#include "../arm64_neon_arithmetic.h"
#include "kernel.h"

namespace bebert {
namespace {

// Exact sums of the tokens of a task and of one block of channels, 64-byte aligned.
using Sums = int32_t (*)[kChannelBlock];

// Tokens of one tile: whatever is loaded serves up to this many.
constexpr int64_t kTileTokens = 4;

// Before the tables of a token: what its sums start with, four times.
constexpr int64_t kTableHeader = 64;

inline void store_start(int32_t start, uint8_t* tables) {
  vst1q_s32(reinterpret_cast<int32_t*>(tables), vdupq_n_s32(start));
}

// Weights are padded with zero rows to whole blocks.
inline int64_t padded_channels(int64_t n) { return (n + kChannelBlock - 1) / kChannelBlock * kChannelBlock; }

inline int64_t words_of_row(int64_t k) { return packed_row_bytes(k) / 8; }

// Bytes of the weights of `channels` output channels.
inline int64_t weight_bytes(int64_t channels, int64_t k) { return channels * packed_row_bytes(k); }

// Bytes of rows to where [c / block][b / unit][c % block][b % unit] is, for byte b of row c; store(from, to) does so
// for a unit.
template <class Store>
void interleave_bytes(const uint8_t* rows, int64_t n, int64_t k, int64_t block, int64_t unit, Store store,
                      uint8_t* out) {
  constexpr uint8_t kPadding[8] = {};
  const int64_t row_bytes = packed_row_bytes(k);
  for (int64_t c = 0; c < padded_channels(n); ++c) {
    uint8_t* to = out + c / block * block * row_bytes + c % block * unit;
    for (int64_t b = 0; b < row_bytes; b += unit, to += block * unit) {
      store(c < n ? rows + c * row_bytes + b : kPadding, to);
    }
  }
}

// Calls tile(TokenCount<tokens>(), first token) for whole tiles of tokens, then for what is left.
template <int kCount>
struct TokenCount {
  static constexpr int kTokens = kCount;
};

template <class Tile>
inline void for_each_tile(int64_t tokens, Tile tile) {
  int64_t t = 0;
  for (; t + kTileTokens <= tokens; t += kTileTokens) tile(TokenCount<4>(), t);
  if (tokens - t == 3) tile(TokenCount<3>(), t);
  if (tokens - t == 2) tile(TokenCount<2>(), t);
  if (tokens - t == 1) tile(TokenCount<1>(), t);
}

// After the weights of a member, for codes of width 8: offset * (sum of the weights) of each channel, an int32.
inline const int32_t* channel_starts(const uint8_t* weights, int64_t n, int64_t k) {
  return reinterpret_cast<const int32_t*>(weights + weight_bytes(padded_channels(n), k));
}

inline size_t channel_starts_bytes(int64_t n) { return static_cast<size_t>(padded_channels(n)) * sizeof(int32_t); }

inline size_t interleaved_bytes(int64_t n, int64_t k) {
  return static_cast<size_t>(weight_bytes(padded_channels(n), k)) + channel_starts_bytes(n);
}

inline void store_channel_starts(const uint8_t* rows, int64_t n, int64_t k, int32_t offset, uint8_t* weights) {
  const int64_t row_bytes = packed_row_bytes(k);
  int32_t* starts = reinterpret_cast<int32_t*>(weights + weight_bytes(padded_channels(n), k));
  for (int64_t c = 0; c < padded_channels(n); ++c) {
    int64_t ones = 0;
    for (int64_t b = 0; c < n && b < row_bytes; b += 8) {
      ones += vaddv_u8(vcnt_u8(vld1_u8(rows + c * row_bytes + b)));
    }
    starts[c] = static_cast<int32_t>(offset * (2 * ones - k));
  }
}

// The sums of all tokens before their products: what token and channel contribute by themselves.
inline void start_sums(const PackedBinaryMatMulTask& task, int64_t token_bytes, int64_t channel, Sums sums) {
  const int32_t* starts = channel_starts(task.weights, task.n, task.k) + channel;
  for (int64_t t = 0; t < task.tokens; ++t) {
    const uint8_t* tables = static_cast<const uint8_t*>(task.tables) + t * token_bytes;
    const int32x4_t start = vreinterpretq_s32_u8(vld1q_u8(tables));
    for (int64_t c = 0; c < kChannelBlock; c += 4) vst1q_s32(sums[t] + c, vaddq_s32(start, vld1q_s32(starts + c)));
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_TILE_H_
