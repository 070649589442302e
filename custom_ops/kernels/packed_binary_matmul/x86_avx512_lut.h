// SPDX-License-Identifier: Apache-2.0
// Codes of width 8: products by table look-up.
//
// Channels of K are taken in steps of four groups of nine. The weights of a group are the sign of its first channel and
// whether each of the others has the same sign or not. The first channel and four others have 16 signed sums, but for
// the common sign: a table of bytes. The last four have 16 too. Tables of four groups fill a vector; vpermb then does
// 64 look-ups. The two of each group add up in a byte, and vpdpbusd multiplies them by the signs and adds the four
// groups of an output channel into int32: 576 products in four vector operations.
//
// Tables hold levels less 7.5, which are at most 7.5 in magnitude; sums of nine, plus 67.5, are whole numbers from 0 to
// 135. What the tables leave out is the same for every token, and added at the end: see correction(). 8-bit codes are
// two passes: level = 16 * high + low.
//
// Weights of 64 output channels: their corrections, int32; then for each step and each 16 of the channels 64 bytes,
// byte 4 i + g of group g of channel i, with bit j - 1 set where its channel j has the sign of its channel 0; then for
// each step and each 16 channels 64 bits, bit 4 i + g the sign. One bit a weight. Expanding them to indices within the
// innermost loop would cost it a quarter: they are expanded for all tokens of a task, some steps at a time.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_LUT_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_LUT_H_

#include "x86_avx512_tile.h"

namespace bebert {
namespace {

constexpr int64_t kGroup = 9, kGroups = 4, kStep = kGroup * kGroups;

// Bytes of a step: tables of one token; weights, signs and indices of a block.
constexpr int64_t kTableBytes = 128;
constexpr int64_t kWeightBytes = kChannelBlock * kGroups;
constexpr int64_t kSignBytes = kWeightBytes / 8;
constexpr int64_t kIndexBytes = 3 * kWeightBytes;
constexpr int64_t kCorrectionBytes = kChannelBlock * 4;

// Steps whose indices are expanded together: 17 KB, half of a first-level cache, and 768 channels.
constexpr int64_t kChunkSteps = 22;

inline int passes(CodeType input) { return input.high - input.low > 15 ? 2 : 1; }

inline int64_t steps_of_row(int64_t k) { return (k + kStep - 1) / kStep; }

inline int64_t lut_block_bytes(int64_t k) {
  return (kCorrectionBytes + steps_of_row(k) * (kWeightBytes + kSignBytes) + 63) / 64 * 64;
}

// The weights of one step of a row, the first in bit 0; those past its end are zero bits.
inline uint64_t weights_of_step(const uint8_t* row, int64_t row_bytes, int64_t step) {
  const int64_t bit = step * kStep, left = row_bytes - bit / 8;
  uint64_t word = 0;
  if (left >= 8) {
    memcpy(&word, row + bit / 8, 8);
  } else {
    for (int64_t b = 0; b < left; ++b) word |= uint64_t{row[bit / 8 + b]} << (8 * b);
  }
  return word >> (bit % 8) & ((uint64_t{1} << kStep) - 1);
}

// What makes the products of a row from the sum of its look-ups. The tables count levels less 7.5, those of channels
// past k as level 0, and add 67.5 times the sign of every group: two sums of an even number of signs.
inline int32_t correction(int64_t k, CodeType input, int64_t ones, int64_t positive_groups) {
  const int64_t steps = steps_of_row(k);
  const int64_t half_weights = ones - steps * kStep / 2, half_signs = positive_groups - steps * kGroups / 2;
  const int64_t weight_of_passes = passes(input) == 2 ? 17 : 1;
  return static_cast<int32_t>(weight_of_passes * (15 * half_weights - 135 * half_signs) + input.low * (2 * ones - k));
}

void interleave_nibbles(const uint8_t* rows, int64_t n, int64_t k, CodeType input, uint8_t* out) {
  const int64_t steps = steps_of_row(k), row_bytes = packed_row_bytes(k), block_bytes = lut_block_bytes(k);
  memset(out, 0, static_cast<size_t>(padded_channels(n) / kChannelBlock * block_bytes));
  for (int64_t c = 0; c < n; ++c) {
    const int64_t lane = c % kChannelBlock * kGroups;
    uint8_t* block = out + c / kChannelBlock * block_bytes;
    uint8_t* weights = block + kCorrectionBytes + lane;
    uint8_t* signs = block + kCorrectionBytes + steps * kWeightBytes + lane / 8;
    int64_t ones = 0, positive_groups = 0;
    for (int64_t s = 0; s < steps; ++s, weights += kWeightBytes, signs += kSignBytes) {
      uint64_t word = weights_of_step(rows + c * row_bytes, row_bytes, s);
      ones += _mm_popcnt_u64(word);
      uint32_t bytes = 0, sign_bits = 0;
      for (int g = 0; g < kGroups; ++g, word >>= kGroup) {
        const uint32_t positive = word & 1;
        bytes |= static_cast<uint32_t>(static_cast<uint8_t>((word >> 1) ^ (positive - 1))) << (8 * g);
        sign_bits |= positive << g;
      }
      positive_groups += _mm_popcnt_u32(sign_bits);
      memcpy(weights, &bytes, sizeof(bytes));
      *signs = static_cast<uint8_t>(*signs | sign_bits << lane % 8);
    }
    const int32_t sum = correction(k, input, ones, positive_groups);
    memcpy(block + c % kChannelBlock * 4, &sum, sizeof(sum));
  }
}

// Where the entries of the tables come from. Lane g of the vectors belongs to group g.
struct TablePatterns {
  // The pairs of channels 1, 2 .. 7, 8 of a group have four signed sums each: byte 4 p + e of the lane, where bits 0
  // and 1 of e are the signs of the pair's channels. `first` and `second` find their levels, or complements (-1 -
  // level).
  alignas(64) uint8_t first[64], second[64];
  alignas(64) int8_t offset[64];
  alignas(64) uint8_t leader[64];
};

constexpr TablePatterns make_table_patterns() {
  TablePatterns patterns = {};
  for (int g = 0; g < kGroups; ++g) {
    for (int i = 0; i < 16; ++i) {
      const int pair = i / 4, a = i % 2, b = i / 2 % 2, at = 16 * g + i, channel = 9 * g + 1 + 2 * pair;
      patterns.first[at] = static_cast<uint8_t>(channel + (a ? 0 : 64));
      patterns.second[at] = static_cast<uint8_t>(channel + 1 + (b ? 0 : 64));
      // 7.5 less for each channel that counts, more for each that is negative, and the 1 of its complement; and once in
      // each sum 67.5 and the 7.5 of channel 0.
      patterns.offset[at] = static_cast<int8_t>((a && b ? -15 : a || b ? 1 : 17) + (pair == 0 ? 60 : 0));
      patterns.leader[at] = static_cast<uint8_t>(9 * g);
    }
  }
  return patterns;
}

// The two table vectors of a step of levels.
inline void store_tables(__m512i levels, uint8_t* out) {
  static constexpr TablePatterns kPatterns = make_table_patterns();
  const auto load = [](const void* bytes) { return _mm512_load_si512(bytes); };
  const __m512i complements = _mm512_ternarylogic_epi32(levels, levels, levels, 0x55);
  const __m512i pairs = _mm512_add_epi8(
      _mm512_add_epi8(_mm512_permutex2var_epi8(levels, load(kPatterns.first), complements), load(kPatterns.offset)),
      _mm512_permutex2var_epi8(levels, load(kPatterns.second), complements));
  // Entry v: bits 0 and 1 are the signs of one pair, bits 2 and 3 those of the next.
  const __m512i low_bits = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3));
  const __m512i high_bits = _mm512_broadcast_i32x4(_mm_setr_epi8(4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7));
  const __m512i half = _mm512_set1_epi8(8);
  const auto sums = [pairs](__m512i a, __m512i b) {
    return _mm512_add_epi8(_mm512_shuffle_epi8(pairs, a), _mm512_shuffle_epi8(pairs, b));
  };
  const __m512i leaders = _mm512_permutexvar_epi8(load(kPatterns.leader), levels);
  _mm512_store_si512(out, _mm512_add_epi8(sums(low_bits, high_bits), leaders));
  _mm512_store_si512(out + 64, sums(_mm512_add_epi8(low_bits, half), _mm512_add_epi8(high_bits, half)));
}

// For each token: the tables of the codes or, of 8-bit codes, those of the high and then those of the low four bits.
void build_nibble_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, uint8_t* out) {
  const bool two_passes = passes(input) == 2;
  const int64_t steps = steps_of_row(k), pass_bytes = steps * kTableBytes;
  const __m512i nibble = _mm512_set1_epi8(15);
  for (int64_t t = 0; t < tokens; ++t, codes += k, out += passes(input) * pass_bytes) {
    for (int64_t s = 0; s < steps; ++s) {
      const int64_t left = k - kStep * s;
      const __m512i levels = left >= 64 ? _mm512_loadu_si512(codes + kStep * s)
                                        : _mm512_maskz_loadu_epi8((uint64_t{1} << left) - 1, codes + kStep * s);
      if (!two_passes) {
        store_tables(levels, out + s * kTableBytes);
        continue;
      }
      store_tables(_mm512_and_si512(_mm512_srli_epi16(levels, 4), nibble), out + s * kTableBytes);
      store_tables(_mm512_and_si512(levels, nibble), out + pass_bytes + s * kTableBytes);
    }
  }
}

// For each step: for each 16 channels the indices of the first tables, then those of the second, then the signs.
void expand_indices(const uint8_t* weights, const uint8_t* signs, int64_t steps, uint8_t* out) {
  const __m512i nibble = _mm512_set1_epi8(15), plus = _mm512_set1_epi8(1), minus = _mm512_set1_epi8(-1);
  const __m512i group = _mm512_set1_epi32(0x30201000);  // group g of a channel looks in quarter g of the vector
  constexpr int kAndOr = 0xea;                          // (a & b) | c
  for (int64_t s = 0; s < steps; ++s, out += kIndexBytes) {
    for (int v = 0; v < kVectors; ++v, weights += 64, signs += 8) {
      const __m512i bytes = _mm512_load_si512(weights);
      uint64_t sign_bits;
      memcpy(&sign_bits, signs, sizeof(sign_bits));
      _mm512_store_si512(out + 64 * v, _mm512_ternarylogic_epi32(bytes, nibble, group, kAndOr));
      _mm512_store_si512(out + kWeightBytes + 64 * v,
                         _mm512_ternarylogic_epi32(_mm512_srli_epi16(bytes, 4), nibble, group, kAndOr));
      _mm512_store_si512(out + 2 * kWeightBytes + 64 * v, _mm512_mask_blend_epi8(sign_bits, minus, plus));
    }
  }
}

// sum += signs * look-ups. Written so that GCC keeps the sums where they are and the order of the four: in any other
// that was tried, Zen 4 takes longer more often. Two cycles at best; where vpaddb or vpdpbusd take the pipes of
// vpermb, 2.4.
inline void add_look_ups(__m512i first, __m512i first_table, __m512i second, __m512i second_table, __m512i signs,
                         __m512i& sum) {
#if defined(__GNUC__)
  __m512i a, b;
  __asm__(
      "vpermb %[first_table], %[first], %[a]\n\t"
      "vpermb %[second_table], %[second], %[b]\n\t"
      "vpaddb %[b], %[a], %[a]\n\t"
      "vpdpbusd %[signs], %[a], %[sum]"
      : [a] "=&v"(a), [b] "=&v"(b), [sum] "+v"(sum)
      : [first] "v"(first), [first_table] "v"(first_table), [second] "v"(second), [second_table] "v"(second_table),
        [signs] "v"(signs));
#else
  sum = _mm512_dpbusd_epi32(
      sum, _mm512_add_epi8(_mm512_permutexvar_epi8(first, first_table), _mm512_permutexvar_epi8(second, second_table)),
      signs);
#endif
}

// Where the tables of some tokens are: those of a pass are pass_bytes apart.
struct Tables {
  const uint8_t* data;
  int64_t token_bytes, pass_bytes;
  int passes;
};

// The sums of kTokens tokens, a block of channels and some steps, added to those `before`, whose rows are before_row
// apart.
template <int kTokens, class Output>
BEBERT_NOINLINE void lut_tile(Tables tables, const uint8_t* indices, int64_t steps, const int32_t* before,
                              int64_t before_row, const Output& output) {
  __m512i totals[kTokens][kVectors];
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) totals[t][v] = _mm512_setzero_si512();
  }
  for (int pass = 0; pass < tables.passes; ++pass) {
    if (pass == 1) {
      BEBERT_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        BEBERT_UNROLL
        for (int v = 0; v < kVectors; ++v) totals[t][v] = _mm512_slli_epi32(totals[t][v], 4);
      }
    }
    const uint8_t* table = tables.data + pass * tables.pass_bytes;
    const uint8_t* index = indices;
    for (int64_t s = 0; s < steps; ++s, table += kTableBytes, index += kIndexBytes) {
      __m512i first[kVectors], second[kVectors], signs[kVectors];
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        first[v] = _mm512_load_si512(index + 64 * v);
        second[v] = _mm512_load_si512(index + kWeightBytes + 64 * v);
        signs[v] = _mm512_load_si512(index + 2 * kWeightBytes + 64 * v);
      }
      BEBERT_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        __m512i first_table = _mm512_load_si512(table + t * tables.token_bytes);
        __m512i second_table = _mm512_load_si512(table + t * tables.token_bytes + 64);
        BEBERT_KEEP(first_table);
        BEBERT_KEEP(second_table);
        BEBERT_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          add_look_ups(first[v], first_table, second[v], second_table, signs[v], totals[t][v]);
        }
      }
    }
  }
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      output.write(t, v, _mm512_add_epi32(totals[t][v], _mm512_load_si512(before + t * before_row + 16 * v)));
    }
  }
}

// The products of all tokens of a task and one block of channels. `output_of(token)` is the output of a tile.
template <class OutputOf>
void multiply_tables(const PackedBinaryMatMulTask& task, int64_t channel, OutputOf output_of) {
  const int64_t steps = steps_of_row(task.k);
  const int64_t pass_bytes = steps * kTableBytes;
  Tables tables = {nullptr, passes(task.input) * pass_bytes, pass_bytes, passes(task.input)};
  const uint8_t* block = task.weights + channel / kChannelBlock * lut_block_bytes(task.k);
  const uint8_t* weights = block + kCorrectionBytes;
  const uint8_t* signs = weights + steps * kWeightBytes;
  alignas(64) uint8_t indices[kChunkSteps * kIndexBytes];
  alignas(64) int32_t sums[kTokenBlock][kChannelBlock];
  const auto tile = [&](auto tokens, int64_t t, int64_t s, int64_t count) {
    tables.data = static_cast<const uint8_t*>(task.tables) + t * tables.token_bytes + s * kTableBytes;
    const int32_t* before = s > 0 ? sums[t] : reinterpret_cast<const int32_t*>(block);
    const int64_t before_row = s > 0 ? kChannelBlock : 0;
    if (s + count < steps) {
      lut_tile<tokens.value>(tables, indices, count, before, before_row, ToSums{sums + t});
    } else {
      lut_tile<tokens.value>(tables, indices, count, before, before_row, output_of(t));
    }
  };
  for (int64_t s = 0; s < steps; s += kChunkSteps) {
    const int64_t count = steps - s < kChunkSteps ? steps - s : kChunkSteps;
    expand_indices(weights + s * kWeightBytes, signs + s * kSignBytes, count, indices);
    int64_t t = 0;
    for (; t + kTokenTile <= task.tokens; t += kTokenTile) tile(Count<kTokenTile>(), t, s, count);
    for (; t < task.tokens; ++t) tile(Count<1>(), t, s, count);
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_LUT_H_
