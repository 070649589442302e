// SPDX-License-Identifier: Apache-2.0
// Codes of width 8: products by table look-up.
//
// Four channels and four bits of weights have 16 sums: a table of one vector, and tbl looks up 16 output channels at
// once, 64 products. Codes are centred, x = level - centre, so that those of 4 bits are at most 8 in magnitude. An
// entry is not the sum of w * x but that of |x| where w has the sign of x: the former is twice the latter minus the sum
// of all |x|. So it is from 0 to 32, seven entries add up in a byte before they are widened, and 4-bit codes take 30
// vector operations for 7 * 64 products (4.29 for 128; two-bit codes 4.06). 8-bit codes are two passes: value = 16 *
// high + low. Bit planes would take 3 for each bit, the dot product of bytes (8-bit weights in memory) 8. Groups of
// five channels, with tables of two registers, would take 3.5 where such a tbl is one operation, as on Cortex-A76,
// but 5.1 where it is two.
//
// Weights: for each 32 output channels, byte b of the 32 rows: its low four bits are the index of group 2 b, its high
// four bits that of group 2 b + 1. They are expanded for all tokens of a task, some words of K at a time.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_LUT_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_LUT_H_

#include "arm64_neon_tile.h"

namespace bebert {
namespace {

constexpr int64_t kLutChannels = 32;
constexpr int kLutVectors = kLutChannels / 16;

// Of one word of K: groups of four channels, and bytes of their tables.
constexpr int64_t kWordGroups = 16;
constexpr int64_t kTableWordBytes = kWordGroups * 16;

// Words of K whose indices are expanded together: 8 KB. The sums of a chunk, at most 256 * 32, fit 16 bits.
constexpr int64_t kChunkWords = 16;

inline int passes(CodeType input) { return input.high - input.low > 15 ? 2 : 1; }

// The level that becomes 0, of each pass.
inline int32_t centre(CodeType input) { return passes(input) == 2 ? 8 : (input.high - input.low + 1) / 2; }

// value = x + offset, where x = 16 * high + low of two passes.
inline int32_t centre_value(CodeType input) { return input.low + centre(input) * (passes(input) == 2 ? 17 : 1); }

inline int64_t lut_pass_bytes(int64_t k) { return words_of_row(k) * kTableWordBytes; }
// With room for one table more.
inline int64_t lut_table_bytes(int64_t k, CodeType input) {
  return kTableHeader + passes(input) * lut_pass_bytes(k) + 64;
}

void interleave_lut(const uint8_t* rows, int64_t n, int64_t k, CodeType input, uint8_t* out) {
  interleave_bytes(rows, n, k, kLutChannels, 1, [](const uint8_t* from, uint8_t* to) { *to = *from; }, out);
  store_channel_starts(rows, n, k, centre_value(input), out);
}

// The two tables of each vector of four words: word 2 i is the four sums of the first pair of a group, word 2 i + 1
// those of its second pair.
inline void store_two_tables(uint32x4_t pairs, uint8_t* out) {
  constexpr uint8_t kSecond[16] = {4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7};
  constexpr uint8_t kFourth[16] = {12, 12, 12, 12, 13, 13, 13, 13, 14, 14, 14, 14, 15, 15, 15, 15};
  const uint8x16_t bytes = vreinterpretq_u8_u32(pairs);
  const uint8x16_t first = vreinterpretq_u8_u32(vdupq_laneq_u32(pairs, 0));
  const uint8x16_t third = vreinterpretq_u8_u32(vdupq_laneq_u32(pairs, 2));
  vst1q_u8(out, vaddq_u8(first, vqtbl1q_u8(bytes, vector_of(kSecond))));
  vst1q_u8(out + 16, vaddq_u8(third, vqtbl1q_u8(bytes, vector_of(kFourth))));
}

// The eight tables of 32 centred codes.
inline void store_tables(int8x16_t a, int8x16_t b, uint8_t* out) {
  const int8x16_t zero = vdupq_n_s8(0);
  const int8x16_t even = vuzp1q_s8(a, b), odd = vuzp2q_s8(a, b);
  // The sums of a pair for the weights (-, -), (+, -), (-, +), (+, +).
  const int8x16_t negative = vaddq_s8(vminq_s8(even, zero), vminq_s8(odd, zero));
  const int8x16_t s0 = vsubq_s8(zero, negative), s1 = vsubq_s8(even, negative), s2 = vsubq_s8(odd, negative);
  const int8x16_t s3 = vaddq_s8(s1, odd);
  const uint16x8_t low[2] = {vreinterpretq_u16_s8(vzip1q_s8(s0, s1)), vreinterpretq_u16_s8(vzip1q_s8(s2, s3))};
  const uint16x8_t high[2] = {vreinterpretq_u16_s8(vzip2q_s8(s0, s1)), vreinterpretq_u16_s8(vzip2q_s8(s2, s3))};
  store_two_tables(vreinterpretq_u32_u16(vzip1q_u16(low[0], low[1])), out);
  store_two_tables(vreinterpretq_u32_u16(vzip2q_u16(low[0], low[1])), out + 32);
  store_two_tables(vreinterpretq_u32_u16(vzip1q_u16(high[0], high[1])), out + 64);
  store_two_tables(vreinterpretq_u32_u16(vzip2q_u16(high[0], high[1])), out + 96);
}

// The tables of one pass of one token, from levels (shifted right by `shift`); returns the sum of all |x|. Channels
// past k count as zero: their weights, which are zero bits (-1), change nothing.
inline int32_t build_lut_pass(const uint8_t* codes, int64_t k, int shift, uint8_t nibble, int32_t middle,
                              uint8_t* out) {
  uint32x4_t sum = vdupq_n_u32(0);
  for (int64_t c = 0; c < 64 * words_of_row(k); c += 32, out += kTableWordBytes / 2) {
    int8x16_t x[2];
    for (int i = 0; i < 2; ++i) {
      const int64_t left = k - c - 16 * i;
      uint8x16_t levels = load_bytes(codes + c + 16 * i, left > 0 ? left : 0);
      levels = vandq_u8(vshlq_u8(levels, vdupq_n_s8(static_cast<int8_t>(-shift))), vdupq_n_u8(nibble));
      x[i] = vreinterpretq_s8_u8(vsubq_u8(levels, vdupq_n_u8(static_cast<uint8_t>(middle))));
      if (left < 16) x[i] = vandq_s8(x[i], vreinterpretq_s8_u8(first_lanes(left > 0 ? left : 0)));
      sum = vpadalq_u16(sum, vpaddlq_u8(vreinterpretq_u8_s8(vabsq_s8(x[i]))));
    }
    store_tables(x[0], x[1], out);
  }
  return static_cast<int32_t>(vaddvq_u32(sum));
}

// For each token: the header, then the tables of the codes or, of 8-bit codes, those of the high and then those of the
// low four bits.
void build_lut_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, uint8_t* tables) {
  for (int64_t t = 0; t < tokens; ++t, codes += k, tables += lut_table_bytes(k, input)) {
    int32_t start = 0;
    uint8_t* out = tables + kTableHeader;
    if (passes(input) == 2) {
      start -= 16 * build_lut_pass(codes, k, 4, 15, centre(input), out);
      out += lut_pass_bytes(k);
    }
    start -= build_lut_pass(codes, k, 0, 15, centre(input), out);
    store_start(start, tables);
  }
}

// The indices of 32 output channels, for each group of channels.
inline void expand_indices(const uint8_t* weights, int64_t words, uint8_t* out) {
  for (int64_t b = 0; b < 8 * words; ++b, weights += kLutChannels, out += 2 * kLutChannels) {
    for (int v = 0; v < kLutVectors; ++v) {
      const uint8x16_t bytes = vld1q_u8(weights + 16 * v);
      vst1q_u8(out + 16 * v, vandq_u8(bytes, vdupq_n_u8(15)));
      vst1q_u8(out + kLutChannels + 16 * v, vshrq_n_u8(bytes, 4));
    }
  }
}

// Looks up the entries of a group, and loads tables and indices of the next one.
template <int kTokens>
inline void look_up_and_load(uint8x16_t (&table)[kTokens], uint8x16_t (&index)[kLutVectors],
                             uint8x16_t (&entries)[kTokens][kLutVectors], const uint8_t* next_tables,
                             int64_t token_bytes, const uint8_t* next_indices) {
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kLutVectors; ++v) entries[t][v] = vqtbl1q_u8(table[t], index[v]);
    table[t] = vld1q_u8(next_tables + t * token_bytes);
  }
  BEBERT_UNROLL
  for (int v = 0; v < kLutVectors; ++v) index[v] = vld1q_u8(next_indices + 16 * v);
}

#if defined(__GNUC__)
// In an order that suits processors that execute in order: GCC would wait for the loads.
template <>
inline void look_up_and_load<4>(uint8x16_t (&table)[4], uint8x16_t (&index)[kLutVectors],
                                uint8x16_t (&entries)[4][kLutVectors], const uint8_t* next_tables, int64_t token_bytes,
                                const uint8_t* next_indices) {
  __asm__ volatile(
      "tbl %[e0].16b, {%[t0].16b}, %[i0].16b\n\t"
      "tbl %[e1].16b, {%[t0].16b}, %[i1].16b\n\t"
      "ldr %q[t0], [%[tables]]\n\t"
      "tbl %[e2].16b, {%[t1].16b}, %[i0].16b\n\t"
      "tbl %[e3].16b, {%[t1].16b}, %[i1].16b\n\t"
      "ldr %q[t1], [%[tables], %[bytes1]]\n\t"
      "tbl %[e4].16b, {%[t2].16b}, %[i0].16b\n\t"
      "tbl %[e5].16b, {%[t2].16b}, %[i1].16b\n\t"
      "ldr %q[t2], [%[tables], %[bytes2]]\n\t"
      "tbl %[e6].16b, {%[t3].16b}, %[i0].16b\n\t"
      "tbl %[e7].16b, {%[t3].16b}, %[i1].16b\n\t"
      "ldr %q[t3], [%[tables], %[bytes3]]\n\t"
      "ldr %q[i0], [%[indices]]\n\t"
      "ldr %q[i1], [%[indices], #16]"
      : [e0] "=&w"(entries[0][0]), [e1] "=&w"(entries[0][1]), [e2] "=&w"(entries[1][0]), [e3] "=&w"(entries[1][1]),
        [e4] "=&w"(entries[2][0]), [e5] "=&w"(entries[2][1]), [e6] "=&w"(entries[3][0]), [e7] "=&w"(entries[3][1]),
        [t0] "+&w"(table[0]), [t1] "+&w"(table[1]), [t2] "+&w"(table[2]), [t3] "+&w"(table[3]), [i0] "+&w"(index[0]),
        [i1] "+&w"(index[1])
      : [tables] "r"(next_tables), [bytes1] "r"(token_bytes), [bytes2] "r"(2 * token_bytes),
        [bytes3] "r"(3 * token_bytes), [indices] "r"(next_indices)
      : "memory");
}
#endif

// sums += 2^shift * look-ups of kTokens tokens, 32 channels and some groups of K, of which `period` fit a byte.
template <int kTokens>
void lut_tile(const uint8_t* tables, int64_t token_bytes, const uint8_t* indices, int64_t groups, int64_t period,
              int shift, Sums sums) {
  uint16x8_t totals[kTokens][2 * kLutVectors];
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < 2 * kLutVectors; ++v) totals[t][v] = vdupq_n_u16(0);
  }
  // Loaded before they are needed, and so once after the last.
  uint8x16_t table[kTokens], index[kLutVectors];
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) table[t] = vld1q_u8(tables + t * token_bytes);
  BEBERT_UNROLL
  for (int v = 0; v < kLutVectors; ++v) index[v] = vld1q_u8(indices + 16 * v);
  while (groups > 0) {
    const int64_t count = groups < period ? groups : period;
    groups -= count;
    uint8x16_t bytes[kTokens][kLutVectors];
    const auto look_up = [&](uint8x16_t(&entries)[kTokens][kLutVectors]) BEBERT_INLINE {
      tables += 16;
      indices += kLutChannels;
      look_up_and_load(table, index, entries, tables, token_bytes, indices);
    };
    look_up(bytes);
    for (int64_t g = 1; g < count; ++g) {
      uint8x16_t entries[kTokens][kLutVectors];
      look_up(entries);
      BEBERT_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        BEBERT_UNROLL
        for (int v = 0; v < kLutVectors; ++v) bytes[t][v] = vaddq_u8(bytes[t][v], entries[t][v]);
      }
    }
    BEBERT_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      BEBERT_UNROLL
      for (int v = 0; v < kLutVectors; ++v) {
        totals[t][2 * v] = vaddw_u8(totals[t][2 * v], vget_low_u8(bytes[t][v]));
        totals[t][2 * v + 1] = vaddw_high_u8(totals[t][2 * v + 1], bytes[t][v]);
      }
    }
  }
  const int32x4_t factor = vdupq_n_s32(shift);
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < 2 * kLutVectors; ++v) {
      const uint32x4_t quarters[2] = {vmovl_u16(vget_low_u16(totals[t][v])), vmovl_high_u16(totals[t][v])};
      for (int q = 0; q < 2; ++q) {
        int32_t* sum = sums[t] + 8 * v + 4 * q;
        vst1q_s32(sum, vaddq_s32(vld1q_s32(sum), vreinterpretq_s32_u32(vshlq_u32(quarters[q], factor))));
      }
    }
  }
}

void multiply_tables(const PackedBinaryMatMulTask& task, int64_t channel, Sums sums) {
  const int64_t words = words_of_row(task.k), period = 255 / (4 * centre(task.input));
  const int64_t token_bytes = lut_table_bytes(task.k, task.input);
  start_sums(task, token_bytes, channel, sums);
  alignas(64) uint8_t indices[kChunkWords * kWordGroups * kLutChannels + kLutChannels];
  for (int64_t c = 0; c < kChannelBlock; c += kLutChannels) {
    const uint8_t* weights = task.weights + weight_bytes(channel + c, task.k);
    for (int64_t w = 0; w < words; w += kChunkWords) {
      const int64_t count = words - w < kChunkWords ? words - w : kChunkWords;
      expand_indices(weights + w * 8 * kLutChannels, count, indices);
      const uint8_t* tables = static_cast<const uint8_t*>(task.tables) + kTableHeader + w * kTableWordBytes;
      for (int pass = passes(task.input) - 1; pass >= 0; --pass, tables += lut_pass_bytes(task.k)) {
        for_each_tile(task.tokens, [&](auto token_count, int64_t t) {
          lut_tile<decltype(token_count)::kTokens>(tables + t * token_bytes, token_bytes, indices, count * kWordGroups,
                                                   period, 1 + 4 * pass, reinterpret_cast<Sums>(sums[t] + c));
        });
      }
    }
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_LUT_H_
