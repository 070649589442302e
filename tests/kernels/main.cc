// SPDX-License-Identifier: Apache-2.0
// Compares every CPU path of this machine with scalar: kernel_tests [seed [rounds]]
#include "support.h"
#include "tests.h"

int main(int argc, char** argv) {
  const uint64_t first = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  const uint64_t rounds = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  std::printf("paths:");
  for (bebert::Isa isa : bebert::paths()) std::printf(" %s", bebert::name(isa));
  std::printf(" scalar\n");
  for (uint64_t seed = first; seed < first + rounds; ++seed) {
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    bebert::test_packed_binary_matmul(seed);
    bebert::test_packed_binary_matmul_levels(seed);
    bebert::test_packed_binary_matmul_zero_ranges(seed);
    bebert::test_binary_attention(seed);
    bebert::test_rows(seed);
  }
  std::printf("all the same\n");
}
