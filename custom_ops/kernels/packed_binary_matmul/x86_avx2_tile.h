// SPDX-License-Identifier: Apache-2.0
// What the products and the epilogue share. Included by x86_avx2.cc only.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_TILE_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_TILE_H_

#include "../x86_avx2_vectors.h"
#include "kernel.h"

namespace bebert {
namespace {

// Exact sums of the tokens of a task and of one block of channels, 64-byte aligned.
using Sums = int32_t (*)[kChannelBlock];

// Weights are padded with zero rows to whole blocks.
inline int64_t padded_channels(int64_t n) { return (n + kChannelBlock - 1) / kChannelBlock * kChannelBlock; }

// Weights: four bits of a row of weights are the index of one look-up. A unit of some groups (of four channels) of 64
// rows is stored as [2 vectors, groups / 2, 32 bytes]; byte j of a vector belongs to row 8 * (j % 4) + j / 4 of it, so
// that the quarters of its int32 lanes hold eight rows each. Its low half is the index of one group, its high half that
// of the group kGroups / 2 further on, in the order of the tables.
template <int kGroups>
struct Units {
  static constexpr int64_t kChannels = 4 * kGroups;
  static constexpr int64_t kBytes = kChannelBlock * kGroups / 2;

  static int64_t count(int64_t k) { return divide_up(k, kChannels); }

  // group(i) is the group that stands at place i of a unit.
  template <class Group>
  static void interleave(const uint8_t* rows, int64_t n, int64_t k, const Group& group, uint8_t* out) {
    const int64_t row_bytes = packed_row_bytes(k);
    const auto nibble = [&](int64_t channel, int64_t g) {
      if (channel >= n || g / 2 >= row_bytes) return 0;
      return rows[channel * row_bytes + g / 2] >> (4 * (g & 1)) & 15;
    };
    for (int64_t block = 0; block < padded_channels(n); block += kChannelBlock) {
      for (int64_t unit = 0; unit < count(k); ++unit) {
        for (int64_t vector = block; vector < block + kChannelBlock; vector += 32) {
          for (int64_t i = 0; i < kGroups / 2; ++i) {
            for (int64_t j = 0; j < 32; ++j) {
              const int64_t channel = vector + 8 * (j % 4) + j / 4;
              const int low = nibble(channel, unit * kGroups + group(i));
              const int high = nibble(channel, unit * kGroups + group(i + kGroups / 2));
              *out++ = static_cast<uint8_t>(low | high << 4);
            }
          }
        }
      }
    }
  }

  // Indices [2, kVectors, kGroups / 2, 32] of a unit, for the vectors from `vector` on: first of the low halves, then
  // of the high ones.
  template <int kVectors>
  static void expand(const uint8_t* weights, int vector, uint8_t* indices) {
    const __m256i nibble = _mm256_set1_epi8(15);
    constexpr int64_t kVectorBytes = kGroups / 2 * 32;
    uint8_t* low = indices + vector * kVectorBytes;
    uint8_t* high = low + kVectors * kVectorBytes;
    BEBERT_UNROLL
    for (int64_t i = 0; i < kBytes; i += 32) {
      const __m256i bytes = load_vector(weights + i);
      store_vector(low + i, _mm256_and_si256(bytes, nibble));
      store_vector(high + i, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble));
    }
  }
};

// What stands before the tables of a task: a term of the sums of each token.
inline int32_t* token_terms(void* tables) { return static_cast<int32_t*>(tables); }
inline const int32_t* token_terms(const void* tables) { return static_cast<const int32_t*>(tables); }
constexpr int64_t kTermBytes = 64;  // of a token

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX2_TILE_H_
