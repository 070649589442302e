// SPDX-License-Identifier: Apache-2.0
// Codes of width 1: counts of two tokens at a time (x86_avx2_counts.h) for 64 or 128 output channels.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_BITS_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_BITS_H_

#include "../x86_avx2_counts.h"
#include "x86_avx2_tile.h"

namespace bebert {
namespace {

using BitUnits = Units<2 * kStepGroups>;

// Steps whose indices are expanded together: 24 KB for 128 channels.
constexpr int64_t kChunkSteps = 64;

void interleave_bits(const uint8_t* rows, int64_t n, int64_t k, uint8_t* out) {
  BitUnits::interleave(rows, n, k, [](int64_t i) { return i; }, out);
}

// Counts c of a token: sign codes have the sum 2 * (c - padding) - k, bool codes 2 * c - ones.
void build_bit_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* out) {
  const int64_t row_bytes = packed_row_bytes(k);
  int32_t* terms = token_terms(out);
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

// Adds a chunk of K to the sums of all tokens and 32 * kVectors channels, or starts them. Counts of a chunk fit in
// words.
template <int kVectors, bool kStart>
void multiply_chunk(const PackedBinaryMatMulTask& task, int64_t first_step, int64_t steps, const uint8_t* indices,
                    Sums (&sums)[kVectors / 2]) {
  const int32_t* terms = token_terms(task.tables);
  const int64_t pair_bytes = pair_table_bytes(task.k);
  const uint8_t* tables =
      static_cast<const uint8_t*>(task.tables) + task.tokens * kTermBytes + first_step * kStepTableBytes;
  const int64_t rounds = divide_up(steps, 2 * kMaximumSteps), round = divide_up(steps, 2 * rounds);
  const __m256i two = _mm256_set1_epi32(2);
  for (int64_t t = 0; t < task.tokens; t += 2, tables += pair_bytes) {
    __m256i all[2][kVectors], odd[2][kVectors];
    for (int64_t s = 0; s < steps; s += 2 * round) {
      __m256i a[2][kVectors], b[2][kVectors];
      const int64_t first = smaller(round, steps - s), second = smaller(round, steps - s - first);
      const uint8_t* table = tables + s * kStepTableBytes;
      const uint8_t* index = indices + s * kVectors * 96;
      count_pairs<kVectors>(table, index, first, a[0], a[1]);
      count_pairs<kVectors>(table + first * kStepTableBytes, index + first * kVectors * 96, second, b[0], b[1]);
      BEBERT_UNROLL
      for (int i = 0; i < 2; ++i) {
        BEBERT_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          const __m256i both = _mm256_add_epi16(a[i][v], b[i][v]);
          const __m256i both_odd = _mm256_add_epi16(_mm256_srli_epi16(a[i][v], 8), _mm256_srli_epi16(b[i][v], 8));
          all[i][v] = s == 0 ? both : _mm256_add_epi16(all[i][v], both);
          odd[i][v] = s == 0 ? both_odd : _mm256_add_epi16(odd[i][v], both_odd);
        }
      }
    }
    for (int64_t i = 0; i < smaller(2, task.tokens - t); ++i) {
      const __m256i term = _mm256_set1_epi32(terms[t + i]);
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        add_words<kStart>(all[i][v], odd[i][v], two, term, sums[v / 2][t + i] + v % 2 * 32);
      }
    }
  }
}

// The sums of 32 * kVectors channels from `channel` on.
template <int kVectors>
void multiply_bits(const PackedBinaryMatMulTask& task, int64_t channel, Sums (&sums)[kVectors / 2]) {
  const int64_t steps = steps_of_row(task.k);
  const int64_t block_bytes = BitUnits::count(task.k) * BitUnits::kBytes;
  const uint8_t* weights = task.weights + channel / kChannelBlock * block_bytes;
  alignas(64) uint8_t indices[kChunkSteps * kVectors * 96];
  for (int64_t s = 0; s < steps; s += kChunkSteps) {
    const int64_t count = smaller(kChunkSteps, steps - s);
    for (int64_t unit = 0; unit < count / 2; ++unit) {
      for (int v = 0; v < kVectors; v += 2) {
        const uint8_t* from = weights + v / 2 * block_bytes + (s / 2 + unit) * BitUnits::kBytes;
        BitUnits::expand<kVectors>(from, v, indices + unit * kVectors * 192);
      }
    }
    const auto multiply = s == 0 ? multiply_chunk<kVectors, true> : multiply_chunk<kVectors, false>;
    multiply(task, s, count, indices, sums);
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_BITS_H_
