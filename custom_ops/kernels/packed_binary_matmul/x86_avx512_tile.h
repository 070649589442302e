// SPDX-License-Identifier: Apache-2.0
// What the products and the epilogue share. Included by x86_avx512.cc only.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_TILE_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_TILE_H_

#include <string.h>

#include "../x86_avx512_intrinsics.h"
#include "kernel.h"

namespace bebert {
namespace {

// Exact sums of the tokens of a task and of one block of channels, 64-byte aligned.
using Sums = int32_t (*)[kChannelBlock];

// Weights are padded with zero rows to whole blocks.
inline int64_t padded_channels(int64_t n) { return (n + kChannelBlock - 1) / kChannelBlock * kChannelBlock; }

inline int64_t words_of_row(int64_t k) { return packed_row_bytes(k) / 8; }

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_TILE_H_
