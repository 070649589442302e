// SPDX-License-Identifier: Apache-2.0
// Codes of width 8: products by table look-up.
//
// Four channels and four bits of weights have 16 signed sums: a table of int8. Four tables, of four groups of channels,
// fill a vector; vpermb then does 64 look-ups, each for four products. Codes of up to 4 bits are at most 15 in
// magnitude, so that an entry is at most 60 and two entries add up in int8; vpdpbusd with ones adds four neighbouring
// bytes, the groups of one output channel, into int32. 8-bit codes are two passes: value = 16 * high + low.
//
// A word of K (64 channels) has four vectors of tables ("steps"). Channel 16 * g + 4 * s + q of the word is channel q
// of group g of step s: then bits 4 s .. 4 s + 3 of 16-bit quarter g of the weight word are the index, and byte 2 g + h
// of it holds the indices of steps 2 h (low four bits) and 2 h + 1.
//
// Weights: for each 64 output channels, word of K, h = 0, 1, and each 16 of the channels: 64 bytes, byte 4 i + g is
// byte 2 g + h of the word of channel i. One bit a weight. Expanding them to indices within the innermost loop would
// cost it a quarter: they are expanded for all tokens of a task, some words of K at a time.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_LUT_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_LUT_H_

#include "x86_avx512_tile.h"

namespace bebert {
namespace {

constexpr int64_t kStepBytes = 64;
constexpr int64_t kTableWordBytes = 4 * kStepBytes;

// Bytes of weights and of indices of a block and one word of K.
constexpr int64_t kLutWordBytes = kChannelBlock * 8;
constexpr int64_t kIndexWordBytes = 2 * kLutWordBytes;

// Words of K whose indices are expanded together: 16 KB, half of a first-level cache.
constexpr int64_t kChunkWords = 16;

inline int passes(CodeType input) { return input.high - input.low > 15 ? 2 : 1; }

void interleave_nibbles(const uint8_t* rows, int64_t n, int64_t k, uint8_t* out) {
  const int64_t words = words_of_row(k);
  for (int64_t c = 0; c < padded_channels(n); ++c) {
    for (int64_t w = 0; w < words; ++w) {
      uint8_t* to = out + (c / kChannelBlock * words + w) * kLutWordBytes + c % kChannelBlock / 16 * 64 + c % 16 * 4;
      for (int64_t b = 0; b < 8; ++b) {
        to[b % 2 * kLutWordBytes / 2 + b / 2] = c < n ? rows[(c * words + w) * 8 + b] : uint8_t{0};
      }
    }
  }
}

// The four table vectors of 64 channels.
inline void store_tables(__m512i x, uint8_t* out) {
  // Words of (x0 + x1, x0 - x1) for each pair of channels, and their negatives.
  const __m512i swap = _mm512_broadcast_i32x4(_mm_setr_epi8(1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
  const __m512i swapped = _mm512_shuffle_epi8(x, swap);
  const __m512i pairs = _mm512_mask_sub_epi8(_mm512_add_epi8(x, swapped), 0xaaaaaaaaaaaaaaaa, swapped, x);
  const __m512i negative = _mm512_sub_epi8(_mm512_setzero_si512(), pairs);
  // In each quarter, for two steps: sum, difference and their negatives of the first pair of the group, of the second.
  const __m512i steps01 = _mm512_unpacklo_epi16(pairs, negative);
  const __m512i steps23 = _mm512_unpackhi_epi16(pairs, negative);
  // Entry v: bits 0 and 1 are the signs of the first pair, bits 2 and 3 those of the second.
  const __m512i first = _mm512_broadcast_i32x4(_mm_setr_epi8(2, 1, 3, 0, 2, 1, 3, 0, 2, 1, 3, 0, 2, 1, 3, 0));
  const __m512i second = _mm512_broadcast_i32x4(_mm_setr_epi8(6, 6, 6, 6, 5, 5, 5, 5, 7, 7, 7, 7, 4, 4, 4, 4));
  const __m512i odd = _mm512_set1_epi8(8);
  const __m512i first_odd = _mm512_add_epi8(first, odd), second_odd = _mm512_add_epi8(second, odd);
  const auto table = [](__m512i steps, __m512i a, __m512i b) {
    return _mm512_add_epi8(_mm512_shuffle_epi8(steps, a), _mm512_shuffle_epi8(steps, b));
  };
  _mm512_store_si512(out, table(steps01, first, second));
  _mm512_store_si512(out + kStepBytes, table(steps01, first_odd, second_odd));
  _mm512_store_si512(out + 2 * kStepBytes, table(steps23, first, second));
  _mm512_store_si512(out + 3 * kStepBytes, table(steps23, first_odd, second_odd));
}

// For each token: the tables of the codes or, of 8-bit codes, those of the high and then those of the low four bits.
// Channels past k count as zero: their weights, which are zero bits (-1), change nothing.
void build_nibble_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, uint8_t* out) {
  const bool two_passes = passes(input) == 2;
  const int64_t words = words_of_row(k);
  const __m512i nibble = _mm512_set1_epi8(15);
  // The low ends of 8-bit codes, -128 and 0, are multiples of 16.
  const __m512i low = _mm512_set1_epi8(static_cast<char>(two_passes ? input.low / 16 : input.low));
  for (int64_t t = 0; t < tokens; ++t, codes += k) {
    uint8_t* high_out = out + t * passes(input) * words * kTableWordBytes;
    uint8_t* low_out = high_out + words * kTableWordBytes;
    for (int64_t w = 0; w < words; ++w) {
      const int64_t left = k - 64 * w;
      const __mmask64 mask = left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
      const __m512i levels = _mm512_maskz_loadu_epi8(mask, codes + 64 * w);
      if (!two_passes) {
        store_tables(_mm512_maskz_add_epi8(mask, levels, low), high_out + w * kTableWordBytes);
        continue;
      }
      const __m512i high_nibbles = _mm512_and_si512(_mm512_srli_epi16(levels, 4), nibble);
      store_tables(_mm512_maskz_add_epi8(mask, high_nibbles, low), high_out + w * kTableWordBytes);
      store_tables(_mm512_and_si512(levels, nibble), low_out + w * kTableWordBytes);
    }
  }
}

// For each word, h and 16 channels: the indices of step 2 h, then for each 16 channels those of step 2 h + 1.
void expand_indices(const uint8_t* weights, int64_t words, uint8_t* out) {
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i group = _mm512_set1_epi32(0x30201000);  // group g of a channel looks in quarter g of the vector
  constexpr int kAndOr = 0xea;                          // (a & b) | c
  for (int64_t h = 0; h < 2 * words; ++h, out += kIndexWordBytes / 2) {
    for (int v = 0; v < kVectors; ++v, weights += 64) {
      const __m512i bytes = _mm512_load_si512(weights);
      _mm512_store_si512(out + 64 * v, _mm512_ternarylogic_epi32(bytes, nibble, group, kAndOr));
      _mm512_store_si512(out + 64 * (kVectors + v),
                         _mm512_ternarylogic_epi32(_mm512_srli_epi16(bytes, 4), nibble, group, kAndOr));
    }
  }
}

// sum += look-ups of two steps. Written so that GCC keeps the sums where they are and the order of the four: in any
// other that was tried, Zen 4 takes up to 2.7 cycles instead of 2.
inline void add_look_ups(__m512i even, __m512i even_table, __m512i odd, __m512i odd_table, __m512i ones, __m512i& sum) {
#if defined(__GNUC__)
  __m512i a, b;
  __asm__(
      "vpermb %[even_table], %[even], %[a]\n\t"
      "vpermb %[odd_table], %[odd], %[b]\n\t"
      "vpaddb %[b], %[a], %[a]\n\t"
      "vpdpbusd %[a], %[ones], %[sum]"
      : [a] "=&v"(a), [b] "=&v"(b), [sum] "+v"(sum)
      : [even] "v"(even), [even_table] "v"(even_table), [odd] "v"(odd), [odd_table] "v"(odd_table), [ones] "v"(ones));
#else
  sum = _mm512_dpbusd_epi32(
      sum, ones, _mm512_add_epi8(_mm512_permutexvar_epi8(even, even_table), _mm512_permutexvar_epi8(odd, odd_table)));
#endif
}

// Where the tables of some tokens are: those of a pass are pass_bytes apart.
struct Tables {
  const uint8_t* data;
  int64_t token_bytes, pass_bytes;
  int passes;
};

// The sums of kTokens tokens, a block of channels and some words of K, to which those `before` are added, if any.
template <int kTokens, class Output>
BEBERT_NOINLINE void lut_tile(Tables tables, const uint8_t* indices, int64_t words, const int32_t* before,
                              const Output& output) {
  __m512i totals[kTokens][kVectors];
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) totals[t][v] = _mm512_setzero_si512();
  }
  const __m512i ones = _mm512_set1_epi8(1);
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
    for (int64_t h = 0; h < 2 * words; ++h, table += 2 * kStepBytes, index += kIndexWordBytes / 2) {
      __m512i even[kVectors], odd[kVectors];
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        even[v] = _mm512_load_si512(index + 64 * v);
        odd[v] = _mm512_load_si512(index + 64 * (kVectors + v));
      }
      BEBERT_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        __m512i even_table = _mm512_load_si512(table + t * tables.token_bytes);
        __m512i odd_table = _mm512_load_si512(table + t * tables.token_bytes + kStepBytes);
        BEBERT_KEEP(even_table);
        BEBERT_KEEP(odd_table);
        BEBERT_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          add_look_ups(even[v], even_table, odd[v], odd_table, ones, totals[t][v]);
        }
      }
    }
  }
  if (before) {
    BEBERT_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        totals[t][v] = _mm512_add_epi32(totals[t][v], _mm512_load_si512(before + t * kChannelBlock + 16 * v));
      }
    }
  }
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) output.write(t, v, totals[t][v]);
  }
}

// The products of all tokens of a task and one block of channels. `output_of(token)` is the output of a tile.
template <class OutputOf>
void multiply_tables(const PackedBinaryMatMulTask& task, int64_t channel, OutputOf output_of) {
  const int64_t words = words_of_row(task.k);
  const int64_t pass_bytes = words * kTableWordBytes;
  Tables tables = {nullptr, passes(task.input) * pass_bytes, pass_bytes, passes(task.input)};
  const uint8_t* weights = task.weights + channel * words * 8;
  alignas(64) uint8_t indices[kChunkWords * kIndexWordBytes];
  alignas(64) int32_t sums[kTokenBlock][kChannelBlock];
  const auto tile = [&](int64_t t, auto tokens, int64_t w, int64_t count) {
    tables.data = static_cast<const uint8_t*>(task.tables) + t * tables.token_bytes + w * kTableWordBytes;
    const int32_t* before = w > 0 ? sums[t] : nullptr;
    if (w + count < words) return lut_tile<tokens.value>(tables, indices, count, before, ToSums{sums + t});
    lut_tile<tokens.value>(tables, indices, count, before, output_of(t));
  };
  for (int64_t w = 0; w < words; w += kChunkWords) {
    const int64_t count = words - w < kChunkWords ? words - w : kChunkWords;
    expand_indices(weights + w * kLutWordBytes, count, indices);
    int64_t t = 0;
    for (; t + kTokenTile <= task.tokens; t += kTokenTile) tile(t, Count<kTokenTile>(), w, count);
    for (; t < task.tokens; ++t) tile(t, Count<1>(), w, count);
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_LUT_H_
