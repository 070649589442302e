// SPDX-License-Identifier: Apache-2.0
// Codes of width 1: four output channels a vector, 32 channels of each; xor (sign) or and (bool), count the bits of
// bytes, add them up as bytes.
//
// Three vector operations for 128 products, 1.5 cycles on two pipes. Carry-save adders do not help where a count is one
// operation: two words cost 4 + 3 instead of 6. Sums of bytes hold 31 counts of up to 8, 992 channels.
//
// Weights: for each 16 output channels and each 32 channels of K, 4 bytes of each of the 16 rows; inverted for sign
// codes, so that the bits that are counted are channels that agree. Tables: the codes, every 32 bits four times.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_XNOR_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_XNOR_H_

#include "../arm64_neon_counts.h"
#include "arm64_neon_tile.h"

namespace bebert {
namespace {

constexpr int64_t kXnorChannels = 16;
constexpr int64_t kXnorStepBytes = 4 * kXnorChannels;

inline bool is_sign(CodeType input) { return input.low < 0; }

void interleave_xnor(const uint8_t* rows, int64_t n, int64_t k, CodeType input, uint8_t* out) {
  const uint32_t flip = is_sign(input) ? 0xffffffff : 0;
  const auto store = [flip](const uint8_t* from, uint8_t* to) {
    uint32_t bits;
    memcpy(&bits, from, sizeof(bits));
    bits ^= flip;
    memcpy(to, &bits, sizeof(bits));
  };
  interleave_bytes(rows, n, k, kXnorChannels, 4, store, out);
}

// With room for one vector more.
inline int64_t xnor_table_bytes(int64_t k) { return kTableHeader + words_of_row(k) / 2 * 64 + 64; }

// dot = 2 * count + start. Sign: the padding is counted too, so that dot = 2 * (count - padding) - k. Bool: dot = 2 *
// (ones that meet a +1) - ones.
void build_xnor_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, uint8_t* tables) {
  const int64_t words = words_of_row(k);
  for (int64_t t = 0; t < tokens; ++t, tables += xnor_table_bytes(k)) {
    int64_t ones = 0;
    uint8_t* out = tables + kTableHeader;
    for (int64_t w = 0; w < words; ++w, codes += 8, out += 32) {
      const uint8x8_t word = vld1_u8(codes);
      vst1q_u32(reinterpret_cast<uint32_t*>(out), vdupq_lane_u32(vreinterpret_u32_u8(word), 0));
      vst1q_u32(reinterpret_cast<uint32_t*>(out + 16), vdupq_lane_u32(vreinterpret_u32_u8(word), 1));
      ones += vaddv_u8(vcnt_u8(word));
    }
    const int32_t start = static_cast<int32_t>(is_sign(input) ? k - 128 * words : -ones);
    store_start(start, tables);
  }
}

// Adds twice the counted bits of four channels, 4 bytes of each, to their sums.
struct PairwiseSums {
  static uint32x4_t add_twice(uint32x4_t sums, uint8x16_t counts) {
    const uint16x8_t pairs = vpaddlq_u8(counts);
    return vpadalq_u16(sums, vaddq_u16(pairs, pairs));
  }
};

constexpr int kXnorVectors = kXnorChannels / 4;

// Adds twice the counted bits of kTokens tokens and 16 channels to `sums`. Steps are of 32 channels of K.
template <class Adder, int kTokens, bool kSign>
void xnor_tile(const uint8_t* tables, int64_t token_bytes, const uint8_t* weights, int64_t steps, Sums sums) {
  uint32x4_t totals[kTokens][kXnorVectors];
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kXnorVectors; ++v) totals[t][v] = vreinterpretq_u32_u8(vld1q_u8(tables + t * token_bytes));
  }
  tables += kTableHeader;
  // Loaded before they are needed, and so once after the last: see xnor_table_bytes; channel_starts follow the weights.
  uint8x16_t codes = vld1q_u8(tables), rows[kXnorVectors];
  BEBERT_UNROLL
  for (int v = 0; v < kXnorVectors; ++v) rows[v] = vld1q_u8(weights + 16 * v);
  while (steps > 0) {
    const int64_t count = steps < kMostCounts ? steps : kMostCounts;
    steps -= count;
    uint8x16_t counts[kTokens][kXnorVectors];
    const auto step = [&](auto count_bits, auto count_last_bits) BEBERT_INLINE {
      weights += kXnorStepBytes;
      BEBERT_UNROLL
      for (int t = 0; t + 1 < kTokens; ++t) {
        count_bits(codes, rows, counts[t], tables, (t + 1) * token_bytes, weights);
      }
      tables += 16;
      count_last_bits(codes, rows, counts[kTokens - 1], tables, int64_t{0}, weights);
    };
    step(start_counts<kSign, Next::codes>, start_counts<kSign, Next::codes_and_rows>);
    for (int64_t s = 1; s < count; ++s) step(add_counts<kSign, Next::codes>, add_counts<kSign, Next::codes_and_rows>);
    BEBERT_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      BEBERT_UNROLL
      for (int v = 0; v < kXnorVectors; ++v) totals[t][v] = Adder::add_twice(totals[t][v], counts[t][v]);
    }
  }
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kXnorVectors; ++v) vst1q_s32(sums[t] + 4 * v, vreinterpretq_s32_u32(totals[t][v]));
  }
}

template <class Adder, bool kSign>
void multiply_bits(const PackedBinaryMatMulTask& task, int64_t channel, Sums sums) {
  const int64_t token_bytes = xnor_table_bytes(task.k), steps = 2 * words_of_row(task.k);
  for (int64_t c = 0; c < kChannelBlock; c += kXnorChannels) {
    const uint8_t* weights = task.weights + weight_bytes(channel + c, task.k);
    for_each_tile(task.tokens, [&](auto count, int64_t t) {
      const uint8_t* tables = static_cast<const uint8_t*>(task.tables) + t * token_bytes;
      xnor_tile<Adder, decltype(count)::kTokens, kSign>(tables, token_bytes, weights, steps,
                                                        reinterpret_cast<Sums>(sums[t] + c));
    });
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_XNOR_H_
