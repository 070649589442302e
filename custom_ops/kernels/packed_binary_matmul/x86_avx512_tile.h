// SPDX-License-Identifier: Apache-2.0
// The tile that the products and the epilogue share. Compiled with AVX-512 and included by x86_avx512.cc only.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_TILE_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_TILE_H_

#include "../x86_avx512_intrinsics.h"
#include "kernel.h"

namespace bebert {
namespace {

constexpr int kTileTokens = 8;
constexpr int kTileChannels = 32;

// Interleaved weights of one tile and one 64-bit word of K.
constexpr int64_t kWordBytes = kTileChannels * 8;

// Exact sums of a tile, 64-byte aligned.
using Accumulators = int32_t (*)[kTileChannels];

// Weights are padded with zero rows to whole blocks.
inline int64_t padded_channels(int64_t n) { return (n + kChannelBlock - 1) / kChannelBlock * kChannelBlock; }

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_TILE_H_
