// SPDX-License-Identifier: Apache-2.0
// The ops that work row by row: AddLayerNormQuantize, Quantize, PackedBinaryEmbedding.
#include "rows_case.h"
#include "tests.h"

namespace bebert {

namespace {

constexpr int64_t kChannels[] = {1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 767, 768, 1000};
constexpr int64_t kTokens[] = {0, 1, 2, 17, 70};

void compare_add_layer_norm_quantize(Random& random, const RowsCase& c) {
  const AddLayerNormQuantizeInputs inputs(random, c);
  const AddLayerNormQuantizeOutputs expected(c);
  TestHost host;
  run(c, inputs, Isa::scalar, expected, host);
  for (Isa isa : paths()) {
    const AddLayerNormQuantizeOutputs found(c);
    run(c, inputs, isa, found, host);
    expect_same(found.y, expected.y, c.describe("add_layer_norm_quantize", isa));
    expect_same(found.codes, expected.codes, c.describe("add_layer_norm_quantize", isa));
  }
}

void compare_quantize(Random& random, const RowsCase& c) {
  const QuantizeInputs inputs(random, c);
  const int64_t bytes = c.members * c.tokens * c.row_bytes();
  const Array<uint8_t> expected(bytes);
  TestHost host;
  run(c, inputs, Isa::scalar, expected, host);
  for (Isa isa : paths()) {
    const Array<uint8_t> found(bytes);
    run(c, inputs, isa, found, host);
    expect_same(found, expected, c.describe("quantize", isa));
  }
}

void compare_embedding(Random& random, const EmbeddingCase& c) {
  const EmbeddingInputs inputs(random, c);
  const int64_t size = c.members * c.tokens * c.channels;
  const Array<float> expected(size);
  TestHost host;
  run(c, inputs, Isa::scalar, expected, host);
  for (Isa isa : paths()) {
    const Array<float> found(size);
    run(c, inputs, isa, found, host);
    expect_same(found, expected, c.describe(isa));
  }
}

}  // namespace

void test_rows(uint64_t seed) {
  Random random(seed);
  for (int64_t channels : kChannels) {
    for (int64_t tokens : kTokens) {
      const int64_t members = 1 + random.below(3);
      compare_add_layer_norm_quantize(random, {random, random.pick(kCodeTypes), members, tokens, channels});
      compare_quantize(random, {random, random.pick(kCodeTypes), members, tokens, channels});
      compare_embedding(random, {members, 11, tokens, channels});
    }
  }
}

}  // namespace bebert
