// SPDX-License-Identifier: Apache-2.0
// The tests of kernel_tests.
#ifndef BEBERT_EDGE_TESTS_KERNELS_TESTS_H_
#define BEBERT_EDGE_TESTS_KERNELS_TESTS_H_

#include <stdint.h>

namespace bebert {

void test_packed_binary_matmul(uint64_t seed);
void test_packed_binary_matmul_levels(uint64_t seed);
void test_packed_binary_matmul_zero_ranges(uint64_t seed);
void test_binary_attention(uint64_t seed);
void test_rows(uint64_t seed);

}  // namespace bebert

#endif  // BEBERT_EDGE_TESTS_KERNELS_TESTS_H_
