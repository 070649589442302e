// SPDX-License-Identifier: Apache-2.0
#include "binary_attention_case.h"
#include "tests.h"

namespace bebert {

namespace {

constexpr int64_t kHeadSizes[] = {1, 3, 7, 8, 9, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129};
constexpr int64_t kLengths[] = {0, 1, 2, 3, 15, 16, 17, 33, 63, 64, 65, 128, 130};

void compare(Random& random, const AttentionCase& c) {
  const AttentionInputs inputs(random, c);
  const Array<uint8_t> expected(c.output_bytes());
  TestHost host;
  run(c, inputs, Isa::scalar, expected, host);
  for (Isa isa : paths()) {
    const Array<uint8_t> found(c.output_bytes());
    run(c, inputs, isa, found, host);
    expect_same(found, expected, c.describe(isa));
  }
}

}  // namespace

void test_binary_attention(uint64_t seed) {
  Random random(seed);
  for (CodeType input : kCodeTypes) {
    for (CodeType probability : kCodeTypes) {
      for (int softmax = 0; softmax < 2; ++softmax) {
        const bool is_bool = probability.width == 1 && probability.low == 0;
        if (!softmax && !is_bool) continue;
        for (int repeat = 0; repeat < (is_bool ? 8 : 2); ++repeat) {
          AttentionCase c;
          c.config = {1 + random.below(4), random.pick(kHeadSizes), softmax != 0, input,
                      probability,         random.pick(kCodeTypes)};
          c.one_tensor = random.below(2) != 0;
          c.members = 1 + random.below(2);
          c.query_offsets = {0};
          c.key_offsets = {0};
          for (int64_t s = 1 + random.below(2); s > 0; --s) {
            const int64_t keys = random.pick(kLengths);
            const int64_t queries = c.one_tensor ? keys : random.pick(kLengths);
            c.query_offsets.push_back(c.query_offsets.back() + queries);
            c.key_offsets.push_back(c.key_offsets.back() + keys);
          }
          compare(random, c);
        }
      }
    }
  }
}

}  // namespace bebert
