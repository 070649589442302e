// SPDX-License-Identifier: Apache-2.0
// The step of a product of bytes by sdot: 16 products an instruction, two a cycle on Cortex-A76.
#ifndef BEBERT_EDGE_KERNELS_ARM64_DOTPROD_QUADS_H_
#define BEBERT_EDGE_KERNELS_ARM64_DOTPROD_QUADS_H_

#include "arm64_neon_intrinsics.h"

namespace bebert {
namespace {

// Adds the products of four bytes of each row (a lane of a register of 16) and of 16 columns, [column][4].
// Loads stay behind the products before: GCC would begin with all of them and spill.
template <int kLane, int kRowCount>
inline void add_quad(const int8x16_t (&rows)[kRowCount], const uint8_t* columns, int32x4_t (&sums)[kRowCount][4]) {
#if defined(__GNUC__)
  __asm__ volatile("" ::: "memory");
#endif
  int8x16_t column[4];
  BEBERT_UNROLL
  for (int v = 0; v < 4; ++v) column[v] = vreinterpretq_s8_u8(vld1q_u8(columns + 16 * v));
  BEBERT_UNROLL
  for (int t = 0; t < kRowCount; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < 4; ++v) sums[t][v] = vdotq_laneq_s32(sums[t][v], column[v], rows[t], kLane);
  }
}

// Adds the products of rows of `length` bytes, a multiple of 16, and of 16 columns, [length / 4][column][4].
template <int kRowCount>
inline void add_quads(const uint8_t* rows, int64_t rows_stride, int64_t length, const uint8_t* columns,
                      int32x4_t (&sums)[kRowCount][4]) {
  for (int64_t i = 0; i < length; i += 16, rows += 16, columns += 256) {
    int8x16_t row[kRowCount];
    BEBERT_UNROLL
    for (int t = 0; t < kRowCount; ++t) row[t] = vreinterpretq_s8_u8(vld1q_u8(rows + t * rows_stride));
    add_quad<0>(row, columns, sums);
    add_quad<1>(row, columns + 64, sums);
    add_quad<2>(row, columns + 128, sums);
    add_quad<3>(row, columns + 192, sums);
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_ARM64_DOTPROD_QUADS_H_
