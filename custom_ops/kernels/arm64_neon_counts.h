// SPDX-License-Identifier: Apache-2.0
// Counting bits: three vector operations for 128 products of bits.
#ifndef BEBERT_EDGE_KERNELS_ARM64_NEON_COUNTS_H_
#define BEBERT_EDGE_KERNELS_ARM64_NEON_COUNTS_H_

#include "arm64_neon_intrinsics.h"

namespace bebert {
namespace {

// Counts of up to 8 that add up in a byte.
constexpr int64_t kMostCounts = 255 / 8;

// counts[v] = or, where it continues, += bits of each byte of codes xor rows[v] (kXor) or codes and rows[v]. Written so
// that GCC keeps the counts of a tile in registers: it would begin with all of its xor and spill. The order suits
// processors that execute in order.
template <bool kXor>
inline void start_counts(uint8x16_t codes, const uint8x16_t (&rows)[4], uint8x16_t (&counts)[4]) {
  BEBERT_UNROLL
  for (int v = 0; v < 4; ++v) counts[v] = vcntq_u8(kXor ? veorq_u8(codes, rows[v]) : vandq_u8(codes, rows[v]));
}

#if defined(__GNUC__)
#define BEBERT_COUNT(operation)                                                                                     \
  uint8x16_t a, b, c, d;                                                                                            \
  __asm__(operation " %[a].16b, %[codes].16b, %[row0].16b\n\t" operation                                            \
                    " %[b].16b, %[codes].16b, %[row1].16b\n\t" operation                                            \
                    " %[c].16b, %[codes].16b, %[row2].16b\n\t" operation                                            \
                    " %[d].16b, %[codes].16b, %[row3].16b\n\t"                                                      \
                    "cnt %[a].16b, %[a].16b\n\t"                                                                    \
                    "cnt %[b].16b, %[b].16b\n\t"                                                                    \
                    "cnt %[c].16b, %[c].16b\n\t"                                                                    \
                    "cnt %[d].16b, %[d].16b\n\t"                                                                    \
                    "add %[sum0].16b, %[sum0].16b, %[a].16b\n\t"                                                    \
                    "add %[sum1].16b, %[sum1].16b, %[b].16b\n\t"                                                    \
                    "add %[sum2].16b, %[sum2].16b, %[c].16b\n\t"                                                    \
                    "add %[sum3].16b, %[sum3].16b, %[d].16b"                                                        \
          : [a] "=&w"(a), [b] "=&w"(b), [c] "=&w"(c), [d] "=&w"(d), [sum0] "+w"(counts[0]), [sum1] "+w"(counts[1]), \
            [sum2] "+w"(counts[2]), [sum3] "+w"(counts[3])                                                          \
          : [codes] "w"(codes), [row0] "w"(rows[0]), [row1] "w"(rows[1]), [row2] "w"(rows[2]), [row3] "w"(rows[3]))

template <bool kXor>
inline void add_counts(uint8x16_t codes, const uint8x16_t (&rows)[4], uint8x16_t (&counts)[4]) {
  if (kXor) {
    BEBERT_COUNT("eor");
  } else {
    BEBERT_COUNT("and");
  }
}
#undef BEBERT_COUNT
#else
template <bool kXor>
inline void add_counts(uint8x16_t codes, const uint8x16_t (&rows)[4], uint8x16_t (&counts)[4]) {
  uint8x16_t more[4];
  start_counts<kXor>(codes, rows, more);
  for (int v = 0; v < 4; ++v) counts[v] = vaddq_u8(counts[v], more[v]);
}
#endif

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_ARM64_NEON_COUNTS_H_
