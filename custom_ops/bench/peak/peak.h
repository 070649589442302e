// SPDX-License-Identifier: Apache-2.0
// The rate of the innermost operations of a matrix product with all operands in registers: what a kernel could reach.
#ifndef BEBERT_EDGE_BENCH_PEAK_PEAK_H_
#define BEBERT_EDGE_BENCH_PEAK_PEAK_H_

#include <stdint.h>

namespace bebert {

// Each runs `rounds` rounds and returns the number of products done.
int64_t peak_bits_x86_avx2(int64_t rounds);
int64_t peak_tables_x86_avx2(int64_t rounds);
int64_t peak_bits_x86_avx512(int64_t rounds);
int64_t peak_tables_x86_avx512(int64_t rounds);

}  // namespace bebert

#endif  // BEBERT_EDGE_BENCH_PEAK_PEAK_H_
