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
// 205 products a cycle with nothing idle; on Skylake 128, one shuffle a cycle.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_VALUES_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_VALUES_H_

#include "x86_avx2_tile.h"

namespace bebert {
namespace {

using ValueUnits = Units<8>;

constexpr int64_t kUnitTableBytes = 8 * 16;

// Units whose indices are expanded together, 16 KB: sums of words are at most 60 * 8 * 32 = 15360.
constexpr int64_t kChunkUnits = 32;

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

// Adds a chunk of K of one pass to the sums of kTokens tokens and 32 * kVectors channels, or starts them.
template <int kTokens, int kVectors>
inline void value_tile(const uint8_t* tables, int64_t token_bytes, const uint8_t* indices, int64_t steps, int shift,
                       bool start, const int32_t* terms, Sums (&sums)[(kVectors + 1) / 2]) {
  __m256i all[kTokens][kVectors], odd[kTokens][kVectors];
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) all[t][v] = odd[t][v] = _mm256_setzero_si256();
  }
  for (int64_t s = 0; s < steps; ++s, tables += 64, indices += kVectors * 128) {
    __m256i x[kTokens][kVectors];
    BEBERT_UNROLL
    for (int g = 0; g < 4; ++g) {
      BEBERT_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        const __m256i table = load_table(tables + t * token_bytes + 16 * g);
        BEBERT_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          const __m256i found = _mm256_shuffle_epi8(table, load_vector(indices + v * 128 + 32 * g));
          x[t][v] = g == 0 ? found : _mm256_add_epi8(x[t][v], found);
        }
      }
    }
    BEBERT_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        all[t][v] = _mm256_add_epi16(all[t][v], x[t][v]);
        odd[t][v] = _mm256_add_epi16(odd[t][v], _mm256_srli_epi16(x[t][v], 8));
      }
    }
  }
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      add_words(all[t][v], odd[t][v], shift, start, _mm256_set1_epi32(terms[t]), sums[v / 2][t] + v % 2 * 32);
    }
  }
}

// The sums of 64 channels from `channel` on.
void multiply_values(const PackedBinaryMatMulTask& task, int64_t channel, Sums sums) {
  const int64_t units = ValueUnits::count(task.k);
  const int pass_count = passes(task.input);
  const int64_t pass_bytes = units * kUnitTableBytes, token_bytes = pass_count * pass_bytes;
  const int32_t* terms = token_terms(task.tables);
  const uint8_t* weights = task.weights + channel / kChannelBlock * units * ValueUnits::kBytes;
  alignas(64) uint8_t indices[kChunkUnits * 2 * ValueUnits::kBytes];
  for (int64_t u = 0; u < units; u += kChunkUnits) {
    const int64_t count = smaller(kChunkUnits, units - u);
    for (int64_t i = 0; i < count; ++i) {
      ValueUnits::expand<2>(weights + (u + i) * ValueUnits::kBytes, 0, indices + i * 2 * ValueUnits::kBytes);
    }
    const uint8_t* tables = static_cast<const uint8_t*>(task.tables) + task.tokens * kTermBytes + u * kUnitTableBytes;
    for (int pass = 0; pass < pass_count; ++pass) {
      const int shift = pass_count == 2 && pass == 0 ? 5 : 1;
      const bool start = u == 0 && pass == 0;
      int64_t t = 0;
      for (; t < task.tokens;) {
        const uint8_t* from = tables + pass * pass_bytes + t * token_bytes;
        Sums to[1] = {sums + t};
        if (t + 2 <= task.tokens) {
          value_tile<2, 2>(from, token_bytes, indices, 2 * count, shift, start, terms + t, to);
          t += 2;
        } else {
          value_tile<1, 2>(from, token_bytes, indices, 2 * count, shift, start, terms + t, to);
          t += 1;
        }
      }
    }
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_VALUES_H_
