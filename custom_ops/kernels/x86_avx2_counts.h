// SPDX-License-Identifier: Apache-2.0
// Products of one-bit codes and one-bit weights by table look-up, for two rows of codes at a time.
//
// Four channels of a row are a group, four bits of a weight row the index into its table: the number of channels that
// match (sign codes) or that are one in both (bool codes), 0 .. 4. A byte of a table holds the counts of two rows of
// codes, in its low and in its high four bits, so that one vpshufb counts 32 x 4 channels of weights for both. Three
// look-ups, a step, add up to at most 12 in each half; the halves are then added to two sums:
//
//   low  += x & 0x0f          in bytes, at most 21 times (252)
//   high += x >> 4            in words: (even byte's high half) + 16 * (odd byte's low half) + 256 * (odd byte's high)
//
// and high - 16 * (odd bytes of low) are the counts of the second row, in bytes. Three shuffles and six other
// operations for 768 products: on four vector pipes (Zen 4) 341 products a cycle, on three (Skylake) 256, with all of
// them full. Zen 4 reaches 283, in any order of the operations: sums that wait for shuffles are sent to its shuffle
// pipes too.
#ifndef BEBERT_EDGE_KERNELS_X86_AVX2_COUNTS_H_
#define BEBERT_EDGE_KERNELS_X86_AVX2_COUNTS_H_

#include "codes.h"
#include "x86_avx2_vectors.h"

namespace bebert {
namespace {

constexpr int64_t kStepGroups = 3;
constexpr int64_t kStepTableBytes = kStepGroups * 16;
constexpr int64_t kStepChannels = kStepGroups * 4;
constexpr int64_t kMaximumSteps = 21;  // of one call of count_pairs

// Steps come in pairs: three bytes of a row of bits.
inline int64_t steps_of_row(int64_t channels) { return (channels + 2 * kStepChannels - 1) / (2 * kStepChannels) * 2; }

// Tables are written for whole words of channels.
inline int64_t pair_table_bytes(int64_t channels) {
  return (steps_of_row(channels) * kStepTableBytes + 255) / 256 * 256;
}

// The 16 groups of a word, one a byte, in each half of a vector.
inline __m256i split_groups(uint64_t word) {
  const __m128i bytes = _mm_cvtsi64_si128(static_cast<int64_t>(word)), nibble = _mm_set1_epi8(15);
  return twice(_mm_unpacklo_epi8(_mm_and_si128(bytes, nibble), _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble)));
}

// The tables of two rows of bit-packed codes of whole words. Channels after the last, up to whole steps, are zero in
// codes and weights: sign codes match there.
template <bool kSign>
inline void build_pair_tables(const uint8_t* first, const uint8_t* second, int64_t channels, uint8_t* tables) {
  const __m256i entry = twice(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  const __m256i ones = twice(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m256i low = kSign ? _mm256_sub_epi8(_mm256_set1_epi8(4), ones) : ones;
  const __m256i high = _mm256_slli_epi16(low, 4);
  const int64_t words = packed_row_bytes(channels) / 8;
  for (int64_t w = 0; w < pair_table_bytes(channels) / 256; ++w) {
    const __m256i groups[2] = {split_groups(w < words ? load_word(first + 8 * w) : 0),
                               split_groups(w < words ? load_word(second + 8 * w) : 0)};
    __m256i pick = _mm256_setr_epi64x(0, 0, 0x0101010101010101, 0x0101010101010101);
    for (int i = 0; i < 8; ++i, tables += 32) {
      __m256i mixed[2];
      for (int row = 0; row < 2; ++row) {
        const __m256i group = _mm256_shuffle_epi8(groups[row], pick);
        mixed[row] = kSign ? _mm256_xor_si256(group, entry) : _mm256_and_si256(group, entry);
      }
      store_vector(tables, _mm256_add_epi8(_mm256_shuffle_epi8(low, mixed[0]), _mm256_shuffle_epi8(high, mixed[1])));
      pick = _mm256_add_epi8(pick, _mm256_set1_epi8(2));
    }
  }
}

// One step for 32 rows of weights. In assembly, because GCC would reassociate the sums of all vectors of a tile, and
// then has too few registers.
inline void count_step(const __m256i (&table)[kStepGroups], const uint8_t* indices, __m256i nibble, __m256i& low,
                       __m256i& high) {
  const __m256i* index = reinterpret_cast<const __m256i*>(indices);
#if defined(__GNUC__)
  __m256i x, look_up;
  __asm__(
      "vpshufb %[index0], %[table0], %[x]\n\t"
      "vpshufb %[index1], %[table1], %[look_up]\n\t"
      "vpaddb %[look_up], %[x], %[x]\n\t"
      "vpshufb %[index2], %[table2], %[look_up]\n\t"
      "vpaddb %[look_up], %[x], %[x]\n\t"
      "vpand %[nibble], %[x], %[look_up]\n\t"
      "vpsrlw $4, %[x], %[x]\n\t"
      "vpaddb %[look_up], %[low], %[low]\n\t"
      "vpaddw %[x], %[high], %[high]"
      : [x] "=&x"(x), [look_up] "=&x"(look_up), [low] "+x"(low), [high] "+x"(high)
      : [index0] "m"(index[0]), [index1] "m"(index[1]), [index2] "m"(index[2]), [table0] "x"(table[0]),
        [table1] "x"(table[1]), [table2] "x"(table[2]), [nibble] "x"(nibble));
#else
  __m256i x = _mm256_shuffle_epi8(table[0], index[0]);
  x = _mm256_add_epi8(x, _mm256_shuffle_epi8(table[1], index[1]));
  x = _mm256_add_epi8(x, _mm256_shuffle_epi8(table[2], index[2]));
  low = _mm256_add_epi8(low, _mm256_and_si256(x, nibble));
  high = _mm256_add_epi16(high, _mm256_srli_epi16(x, 4));
#endif
}

// Bytes of counts of the first and the second row for kVectors vectors of 32 rows of weights; at most kMaximumSteps
// steps. indices: [steps, kVectors, 3, 32].
template <int kVectors>
inline void count_pairs(const uint8_t* tables, const uint8_t* indices, int64_t steps, __m256i (&first)[kVectors],
                        __m256i (&second)[kVectors]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  __m256i low[kVectors], high[kVectors];  // not the arguments: GCC keeps those in memory
  BEBERT_UNROLL
  for (int v = 0; v < kVectors; ++v) low[v] = high[v] = _mm256_setzero_si256();
  for (int64_t s = 0; s < steps; ++s, tables += kStepTableBytes, indices += kVectors * 96) {
    const __m256i table[3] = {load_table(tables), load_table(tables + 16), load_table(tables + 32)};
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) count_step(table, indices + v * 96, nibble, low[v], high[v]);
  }
  BEBERT_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const __m256i odd = _mm256_srli_epi16(low[v], 8);
    first[v] = low[v];
    second[v] = _mm256_sub_epi16(high[v], _mm256_slli_epi16(odd, 4));
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_X86_AVX2_COUNTS_H_
