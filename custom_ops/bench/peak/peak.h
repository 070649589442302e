// SPDX-License-Identifier: Apache-2.0
// The rate of the innermost operations of a matrix product with all operands in registers: what a kernel could reach.
#ifndef BEBERT_EDGE_BENCH_PEAK_PEAK_H_
#define BEBERT_EDGE_BENCH_PEAK_PEAK_H_

#include <stdint.h>

namespace bebert {

// Each runs `rounds` rounds and returns the number of products done: of one-bit codes, and of codes of up to four bits.
#define PEAK(isa)                          \
  int64_t peak_bits_##isa(int64_t rounds); \
  int64_t peak_tables_##isa(int64_t rounds);
#include "peaks.inc"
#undef PEAK

}  // namespace bebert

#endif  // BEBERT_EDGE_BENCH_PEAK_PEAK_H_
