// SPDX-License-Identifier: Apache-2.0
// What the products and the epilogue share. Included by x86_avx512.cc only.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_TILE_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_TILE_H_

#include <string.h>

#include "../x86_avx512_intrinsics.h"
#include "kernel.h"

namespace bebert {
namespace {

// GCC keeps the arrays of a tile in registers only where their function stands alone.
#if defined(__GNUC__)
#define BEBERT_NOINLINE __attribute__((noinline))
#else
#define BEBERT_NOINLINE
#endif

// Vectors of 16 output channels of a block; tokens that are multiplied together.
constexpr int kVectors = kChannelBlock / 16;
constexpr int kTokenTile = 4;

// Exact sums of some tokens and of one block of channels, 64-byte aligned.
using Sums = int32_t (*)[kChannelBlock];

// An output of a tile gets, from registers, the sums of token t of the tile and of channels 16 * v .. 16 * v + 15 of
// the block.
struct ToSums {
  Sums sums;
  void write(int t, int v, __m512i sum) const { _mm512_store_si512(sums[t] + 16 * v, sum); }
};

// A number known to the compiler.
template <int n>
struct Count {
  static constexpr int value = n;
};

// Weights are padded with zero rows to whole blocks.
inline int64_t padded_channels(int64_t n) { return (n + kChannelBlock - 1) / kChannelBlock * kChannelBlock; }

inline int64_t words_of_row(int64_t k) { return packed_row_bytes(k) / 8; }

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_TILE_H_
