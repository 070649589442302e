// SPDX-License-Identifier: Apache-2.0
// Counting bits: three vector operations for 128 products of bits.
#ifndef BEBERT_EDGE_KERNELS_ARM64_NEON_COUNTS_H_
#define BEBERT_EDGE_KERNELS_ARM64_NEON_COUNTS_H_

#include "arm64_neon_intrinsics.h"

namespace bebert {
namespace {

// Counts of up to 8 that add up in a byte.
constexpr int64_t kMostCounts = 255 / 8;

// What is loaded for the next step while bits are counted.
enum class Next { nothing, codes, codes_and_rows };

// counts[v] = bits of each byte of codes xor rows[v] (kXor) or codes and rows[v]; then loads.
template <bool kXor, Next kNext>
inline void start_counts(uint8x16_t& codes, uint8x16_t (&rows)[4], uint8x16_t (&counts)[4], const uint8_t* next_codes,
                         int64_t codes_offset, const uint8_t* next_rows) {
  BEBERT_UNROLL
  for (int v = 0; v < 4; ++v) counts[v] = vcntq_u8(kXor ? veorq_u8(codes, rows[v]) : vandq_u8(codes, rows[v]));
  if (kNext != Next::nothing) codes = vld1q_u8(next_codes + codes_offset);
  BEBERT_UNROLL
  for (int v = 0; kNext == Next::codes_and_rows && v < 4; ++v) rows[v] = vld1q_u8(next_rows + 16 * v);
}

// The same, added to counts. Written so that GCC keeps the counts of a tile in registers, for it would begin with all
// of its xor and spill, and in an order that suits processors that execute in order.
#if defined(__GNUC__)
#define BEBERT_COUNT(operation, load, load0, load1, load2, load3)                                                     \
  __asm__ volatile(operation " %[a].16b, %[codes].16b, %[row0].16b\n\t" operation                                     \
                             " %[b].16b, %[codes].16b, %[row1].16b\n\t" operation                                     \
                             " %[c].16b, %[codes].16b, %[row2].16b\n\t" operation                                     \
                             " %[d].16b, %[codes].16b, %[row3].16b\n\t" load "cnt %[a].16b, %[a].16b\n\t" load0       \
                             "cnt %[b].16b, %[b].16b\n\t" load1 "cnt %[c].16b, %[c].16b\n\t" load2                    \
                             "cnt %[d].16b, %[d].16b\n\t" load3                                                       \
                             "add %[sum0].16b, %[sum0].16b, %[a].16b\n\t"                                             \
                             "add %[sum1].16b, %[sum1].16b, %[b].16b\n\t"                                             \
                             "add %[sum2].16b, %[sum2].16b, %[c].16b\n\t"                                             \
                             "add %[sum3].16b, %[sum3].16b, %[d].16b"                                                 \
                   : [a] "=&w"(a), [b] "=&w"(b), [c] "=&w"(c), [d] "=&w"(d), [sum0] "+&w"(counts[0]),                 \
                     [sum1] "+&w"(counts[1]), [sum2] "+&w"(counts[2]), [sum3] "+&w"(counts[3]), [codes] "+&w"(codes), \
                     [row0] "+&w"(rows[0]), [row1] "+&w"(rows[1]), [row2] "+&w"(rows[2]), [row3] "+&w"(rows[3])       \
                   : [next_codes] "r"(next_codes), [codes_offset] "r"(codes_offset), [next_rows] "r"(next_rows)       \
                   : "memory")
#define BEBERT_COUNT_AND_LOAD(operation)                                                                               \
  if (kNext == Next::nothing) {                                                                                        \
    BEBERT_COUNT(operation, "", "", "", "", "");                                                                       \
  } else if (kNext == Next::codes) {                                                                                   \
    BEBERT_COUNT(operation, "ldr %q[codes], [%[next_codes], %[codes_offset]]\n\t", "", "", "", "");                    \
  } else {                                                                                                             \
    BEBERT_COUNT(operation, "ldr %q[codes], [%[next_codes], %[codes_offset]]\n\t", "ldr %q[row0], [%[next_rows]]\n\t", \
                 "ldr %q[row1], [%[next_rows], #16]\n\t", "ldr %q[row2], [%[next_rows], #32]\n\t",                     \
                 "ldr %q[row3], [%[next_rows], #48]\n\t");                                                             \
  }

template <bool kXor, Next kNext>
inline void add_counts(uint8x16_t& codes, uint8x16_t (&rows)[4], uint8x16_t (&counts)[4], const uint8_t* next_codes,
                       int64_t codes_offset, const uint8_t* next_rows) {
  uint8x16_t a, b, c, d;
  if (kXor) {
    BEBERT_COUNT_AND_LOAD("eor");
  } else {
    BEBERT_COUNT_AND_LOAD("and");
  }
}
#undef BEBERT_COUNT_AND_LOAD
#undef BEBERT_COUNT
#else
template <bool kXor, Next kNext>
inline void add_counts(uint8x16_t& codes, uint8x16_t (&rows)[4], uint8x16_t (&counts)[4], const uint8_t* next_codes,
                       int64_t codes_offset, const uint8_t* next_rows) {
  uint8x16_t more[4];
  start_counts<kXor, kNext>(codes, rows, more, next_codes, codes_offset, next_rows);
  for (int v = 0; v < 4; ++v) counts[v] = vaddq_u8(counts[v], more[v]);
}
#endif

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_ARM64_NEON_COUNTS_H_
