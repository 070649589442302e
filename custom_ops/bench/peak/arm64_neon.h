// SPDX-License-Identifier: Apache-2.0
// The peak loops of both Arm paths.
#ifndef BEBERT_EDGE_BENCH_PEAK_ARM64_NEON_H_
#define BEBERT_EDGE_BENCH_PEAK_ARM64_NEON_H_

#include <stdint.h>

#include "../../kernels/arm64_neon_intrinsics.h"

namespace bebert {
namespace {

constexpr int kSums = 16;

// Keeps a value in a register that the compiler knows nothing about.
template <class Vector>
inline void hide(Vector& x) {
  __asm__ volatile("" : "+w"(x));
}

// 128 one-bit products: xor, count, add.
inline int64_t peak_bits(int64_t rounds) {
  uint8x16_t sums[kSums], a = vdupq_n_u8(0x35), b = vdupq_n_u8(0x53);
  for (uint8x16_t& sum : sums) sum = vdupq_n_u8(0);
  for (int64_t round = 0; round < rounds; ++round) {
    BEBERT_UNROLL
    for (int i = 0; i < kSums; ++i) {
      hide(a);
      sums[i] = vaddq_u8(sums[i], vcntq_u8(veorq_u8(a, b)));
    }
  }
  for (uint8x16_t& sum : sums) hide(sum);
  return rounds * kSums * 128;
}

// 448 products by look-up: seven look-ups, six sums of bytes, two sums of 16 bits.
inline int64_t peak_tables(int64_t rounds) {
  constexpr int kTables = kSums / 2;
  uint16x8_t sums[kSums];
  uint8x16_t index = vdupq_n_u8(3), table = vdupq_n_u8(1);
  for (uint16x8_t& sum : sums) sum = vdupq_n_u16(0);
  for (int64_t round = 0; round < rounds; ++round) {
    BEBERT_UNROLL
    for (int i = 0; i < kTables; ++i) {
      hide(table);
      uint8x16_t entries = vqtbl1q_u8(table, index);
      BEBERT_UNROLL
      for (int g = 1; g < 7; ++g) {
        hide(table);
        entries = vaddq_u8(entries, vqtbl1q_u8(table, index));
      }
      sums[2 * i] = vaddw_u8(sums[2 * i], vget_low_u8(entries));
      sums[2 * i + 1] = vaddw_high_u8(sums[2 * i + 1], entries);
    }
  }
  for (uint16x8_t& sum : sums) hide(sum);
  return rounds * kTables * 448;
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_BENCH_PEAK_ARM64_NEON_H_
