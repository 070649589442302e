// SPDX-License-Identifier: Apache-2.0
// Codes of width 8: products by table look-up.
//
// Four channels of a token are a group; its table holds, for each four bits of a row of weights, the sum of the values
// whose bit is one, and a bias that makes it 0 .. 60: 32 x 4 channels of weights are one vpshufb. Four look-ups add up
// in unsigned bytes (240), and then to two sums of words: of both bytes (modulo 2^16) and of the odd bytes. The product
// with weights of -1 and 1 is twice the sum less the sum of all values. 8-bit codes are two passes: value = 16 * high +
// low.
//
// Four shuffles and six other operations for 512 products: on four vector pipes, of which two shuffle or shift (Zen 4),
// 205 products a cycle (167 are reached: x86_avx2_counts.h); on Skylake 128, one shuffle a cycle.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_VALUES_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_VALUES_H_

#include "x86_avx2_tile.h"

namespace bebert {
namespace {

using ValueUnits = Units<8>;

constexpr int64_t kUnitTableBytes = 8 * 16;

// Units whose indices are expanded together, 24 KB for 128 channels: sums of words are at most 60 * 8 * 24 = 11520.
constexpr int64_t kChunkUnits = 24;

inline int passes(CodeType input) { return input.high - input.low > 15 ? 2 : 1; }

// Tables are built for the groups 0 and 4, 1 and 5 and so on of a unit: one in each half of a vector.
void interleave_values(const uint8_t* rows, int64_t n, int64_t k, uint8_t* out) {
  ValueUnits::interleave(rows, n, k, [](int64_t i) { return i / 2 + i % 2 * 4; }, out);
}

// The eight tables of the values x of 32 channels, with `half` of the bias.
inline void store_tables(__m256i x, __m256i half, uint8_t* out) {
  // Words (0, x0) and (x1, x0 + x1) of each pair of channels.
  const __m256i odd = _mm256_set1_epi16(static_cast<int16_t>(0xff00));
  const __m256i even_up = _mm256_slli_epi16(x, 8);
  const __m256i sums = _mm256_add_epi8(_mm256_add_epi8(even_up, _mm256_and_si256(x, odd)), _mm256_srli_epi16(x, 8));
  const __m256i lows = _mm256_add_epi8(even_up, half), highs = _mm256_add_epi8(sums, half);
  const __m256i pairs[2] = {_mm256_unpacklo_epi16(lows, highs), _mm256_unpackhi_epi16(lows, highs)};
  const __m256i first = twice(_mm_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3));
  const __m256i second = twice(_mm_setr_epi8(4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7));
  const __m256i eight = _mm256_set1_epi8(8);
  for (int i = 0; i < 2; ++i, out += 64) {
    store_vector(out, _mm256_add_epi8(_mm256_shuffle_epi8(pairs[i], first), _mm256_shuffle_epi8(pairs[i], second)));
    store_vector(out + 32, _mm256_add_epi8(_mm256_shuffle_epi8(pairs[i], _mm256_add_epi8(first, eight)),
                                           _mm256_shuffle_epi8(pairs[i], _mm256_add_epi8(second, eight))));
  }
}

// For each token: the tables of the codes or, of 8-bit codes, those of the high and then those of the low four bits.
// Channels past k have the value 0.
void build_value_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* out) {
  const bool two_passes = passes(input) == 2;
  const int64_t units = ValueUnits::count(k);
  const int32_t low = two_passes ? input.low / 16 : input.low;  // 8-bit codes: -128 and 0 are multiples of 16
  const __m256i lows = _mm256_set1_epi8(static_cast<char>(low));
  const __m256i half = _mm256_set1_epi8(static_cast<char>(-2 * low)), nibble = _mm256_set1_epi8(15);
  const int64_t bias = -4 * 8 * units * input.low;  // of all groups of a row
  int32_t* terms = token_terms(out);
  uint8_t* tables = static_cast<uint8_t*>(out) + tokens * kTermBytes;
  for (int64_t t = 0; t < tokens; ++t, codes += k) {
    uint8_t* low_tables = tables + units * kUnitTableBytes;
    __m256i sum = _mm256_setzero_si256();
    for (int64_t u = 0; u < units; ++u, tables += kUnitTableBytes) {
      const __m256i levels = load_bytes(codes + 32 * u, k - 32 * u, static_cast<uint8_t>(-input.low));
      sum = _mm256_add_epi32(sum, sum_bytes(levels));
      if (!two_passes) {
        store_tables(_mm256_add_epi8(levels, lows), half, tables);
        continue;
      }
      const __m256i high_nibbles = _mm256_and_si256(_mm256_srli_epi16(levels, 4), nibble);
      store_tables(_mm256_add_epi8(high_nibbles, lows), half, tables);
      store_tables(_mm256_and_si256(levels, nibble), _mm256_setzero_si256(), low_tables + u * kUnitTableBytes);
    }
    if (two_passes) tables += units * kUnitTableBytes;
    // 2 * (sum of look-ups - bias) - (sum of values); the bias is -low a channel.
    const int64_t values = sum_int32(sum) - bias;
    terms[t] = static_cast<int32_t>(-2 * bias - values);
  }
}

// Four look-ups for 32 channels. In assembly, because GCC would reassociate the sums of all vectors of a tile, and then
// has too few registers.
inline void look_up_step(const __m256i (&table)[4], const uint8_t* indices, __m256i& all, __m256i& odd) {
  const __m256i* index = reinterpret_cast<const __m256i*>(indices);
#if defined(__GNUC__)
  __m256i x, look_up;
  __asm__(
      "vpshufb %[index0], %[table0], %[x]\n\t"
      "vpshufb %[index1], %[table1], %[look_up]\n\t"
      "vpaddb %[look_up], %[x], %[x]\n\t"
      "vpshufb %[index2], %[table2], %[look_up]\n\t"
      "vpaddb %[look_up], %[x], %[x]\n\t"
      "vpshufb %[index3], %[table3], %[look_up]\n\t"
      "vpaddb %[look_up], %[x], %[x]\n\t"
      "vpaddw %[x], %[all], %[all]\n\t"
      "vpsrlw $8, %[x], %[x]\n\t"
      "vpaddw %[x], %[odd], %[odd]"
      : [x] "=&x"(x), [look_up] "=&x"(look_up), [all] "+x"(all), [odd] "+x"(odd)
      : [index0] "m"(index[0]), [index1] "m"(index[1]), [index2] "m"(index[2]), [index3] "m"(index[3]),
        [table0] "x"(table[0]), [table1] "x"(table[1]), [table2] "x"(table[2]), [table3] "x"(table[3]));
#else
  __m256i x = _mm256_shuffle_epi8(table[0], index[0]);
  for (int g = 1; g < 4; ++g) x = _mm256_add_epi8(x, _mm256_shuffle_epi8(table[g], index[g]));
  all = _mm256_add_epi16(all, x);
  odd = _mm256_add_epi16(odd, _mm256_srli_epi16(x, 8));
#endif
}

// Adds a chunk of K of one pass to the sums of a token and 32 * kVectors channels, or starts them.
template <int kVectors, bool kStart>
inline void add_look_ups(const uint8_t* tables, const uint8_t* indices, int64_t steps, __m256i factor, __m256i term,
                         int64_t token, int32_t (&sums)[kVectors / 2][kTokenBlock][kChannelBlock]) {
  __m256i all[kVectors], odd[kVectors];
  BEBERT_UNROLL
  for (int v = 0; v < kVectors; ++v) all[v] = odd[v] = _mm256_setzero_si256();
  for (int64_t s = 0; s < steps; ++s, tables += 64, indices += kVectors * 128) {
    const __m256i table[4] = {load_table(tables), load_table(tables + 16), load_table(tables + 32),
                              load_table(tables + 48)};
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) look_up_step(table, indices + v * 128, all[v], odd[v]);
  }
  BEBERT_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    add_words<kStart>(all[v], odd[v], factor, term, sums[v / 2][token] + v % 2 * 32);
  }
}

// The sums of kBlocks blocks of channels from `channel` on.
template <int kBlocks>
void multiply_values(const PackedBinaryMatMulTask& task, int64_t channel,
                     int32_t (&sums)[kBlocks][kTokenBlock][kChannelBlock]) {
  constexpr int kVectors = 2 * kBlocks;
  const int64_t units = ValueUnits::count(task.k);
  const int64_t block_bytes = units * ValueUnits::kBytes;
  const int pass_count = passes(task.input);
  const int64_t pass_bytes = units * kUnitTableBytes;
  const int32_t* terms = token_terms(task.tables);
  const uint8_t* weights = task.weights + channel / kChannelBlock * block_bytes;
  alignas(64) uint8_t indices[kChunkUnits * kVectors * 256];
  for (int64_t u = 0; u < units; u += kChunkUnits) {
    const int64_t count = smaller(kChunkUnits, units - u);
    for (int64_t i = 0; i < count; ++i) {
      for (int v = 0; v < kVectors; v += 2) {
        const uint8_t* from = weights + v / 2 * block_bytes + (u + i) * ValueUnits::kBytes;
        ValueUnits::expand<kVectors>(from, v, indices + i * kVectors * 256);
      }
    }
    const uint8_t* tables = static_cast<const uint8_t*>(task.tables) + task.tokens * kTermBytes + u * kUnitTableBytes;
    for (int64_t t = 0; t < task.tokens; ++t) {
      const __m256i term = _mm256_set1_epi32(terms[t]);
      for (int pass = 0; pass < pass_count; ++pass, tables += pass_bytes) {
        const __m256i factor = _mm256_set1_epi32(pass + 1 < pass_count ? 32 : 2);
        const auto add = u == 0 && pass == 0 ? add_look_ups<kVectors, true> : add_look_ups<kVectors, false>;
        add(tables, indices, 2 * count, factor, term, t, sums);
      }
    }
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_VALUES_H_
