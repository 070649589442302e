// SPDX-License-Identifier: Apache-2.0
// Codes of width 1: counts of two tokens at a time (x86_avx2_counts.h), 64 output channels.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_BITS_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_BITS_H_

#include "../x86_avx2_counts.h"
#include "x86_avx2_tile.h"

namespace bebert {
namespace {

using BitUnits = Units<2 * kStepGroups>;

// Steps whose indices are expanded together: 16 KB.
constexpr int64_t kChunkSteps = 86;

void interleave_bits(const uint8_t* rows, int64_t n, int64_t k, uint8_t* out) {
  BitUnits::interleave(rows, n, k, [](int64_t i) { return i; }, out);
}

// Counts c of a token: sign codes have the sum 2 * (c - padding) - k, bool codes 2 * c - ones.
void build_bit_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* out) {
  const int64_t row_bytes = packed_row_bytes(k);
  int32_t* terms = token_terms(out);
  terms[tokens] = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    if (input.low < 0) {
      terms[t] = static_cast<int32_t>(k - 2 * steps_of_row(k) * kStepChannels);
      continue;
    }
    int64_t ones = 0;
    for (int64_t b = 0; b < row_bytes; b += 8) ones += _mm_popcnt_u64(load_word(codes + t * row_bytes + b));
    terms[t] = static_cast<int32_t>(-ones);
  }
  uint8_t* tables = static_cast<uint8_t*>(out) + tokens * kTermBytes;
  for (int64_t t = 0; t < tokens; t += 2, tables += pair_table_bytes(k)) {
    const uint8_t* first = codes + t * row_bytes;
    const uint8_t* second = t + 1 < tokens ? first + row_bytes : first;
    const auto build = input.low < 0 ? build_pair_tables<true> : build_pair_tables<false>;
    build(first, second, k, tables);
  }
}

// Adds a chunk of K to the sums of all tokens and 64 channels, or starts them. Counts of a chunk fit in words.
template <bool kStart>
void multiply_chunk(const PackedBinaryMatMulTask& task, int64_t first_step, int64_t steps, const uint8_t* indices,
                    Sums sums) {
  const int32_t* terms = token_terms(task.tables);
  const uint8_t* tables =
      static_cast<const uint8_t*>(task.tables) + task.tokens * kTermBytes + first_step * kStepTableBytes;
  const int64_t rounds = divide_up(steps, 2 * kMaximumSteps), round = divide_up(steps, 2 * rounds);
  const __m256i two = _mm256_set1_epi32(2);
  for (int64_t t = 0; t < task.tokens; t += 2, tables += pair_table_bytes(task.k)) {
    __m256i all[2][2], odd[2][2];
    for (int i = 0; i < 2; ++i) {
      for (int v = 0; v < 2; ++v) all[i][v] = odd[i][v] = _mm256_setzero_si256();
    }
    // Two rounds at a time, so that half of the sums are added in registers.
    for (int64_t s = 0; s < steps; s += 2 * round) {
      __m256i a[2][2], b[2][2];
      const int64_t first = smaller(round, steps - s), second = smaller(round, steps - s - first);
      const uint8_t* table = tables + s * kStepTableBytes;
      const uint8_t* index = indices + s * 192;
      count_pairs<2>(table, index, first, a[0], a[1]);
      count_pairs<2>(table + first * kStepTableBytes, index + first * 192, second, b[0], b[1]);
      BEBERT_UNROLL
      for (int i = 0; i < 2; ++i) {
        BEBERT_UNROLL
        for (int v = 0; v < 2; ++v) {
          all[i][v] = _mm256_add_epi16(all[i][v], _mm256_add_epi16(a[i][v], b[i][v]));
          odd[i][v] = _mm256_add_epi16(odd[i][v],
                                       _mm256_add_epi16(_mm256_srli_epi16(a[i][v], 8), _mm256_srli_epi16(b[i][v], 8)));
        }
      }
    }
    // An odd last token has a double, for which there is room.
    BEBERT_UNROLL
    for (int i = 0; i < 2; ++i) {
      const __m256i term = _mm256_set1_epi32(terms[t + i]);
      BEBERT_UNROLL
      for (int v = 0; v < 2; ++v) add_words<kStart>(all[i][v], odd[i][v], two, term, sums[t + i] + 32 * v);
    }
  }
}

// The sums of 64 channels from `channel` on.
void multiply_bits(const PackedBinaryMatMulTask& task, int64_t channel, Sums sums) {
  const int64_t steps = steps_of_row(task.k);
  const uint8_t* weights = task.weights + channel / kChannelBlock * BitUnits::count(task.k) * BitUnits::kBytes;
  alignas(64) uint8_t indices[kChunkSteps * 192];
  for (int64_t s = 0; s < steps; s += kChunkSteps) {
    const int64_t count = smaller(kChunkSteps, steps - s);
    for (int64_t unit = 0; unit < count / 2; ++unit, weights += BitUnits::kBytes) {
      BitUnits::expand<2>(weights, 0, indices + unit * 384);
    }
    const auto multiply = s == 0 ? multiply_chunk<true> : multiply_chunk<false>;
    multiply(task, s, count, indices, sums);
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_BITS_H_
