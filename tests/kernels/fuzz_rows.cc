// SPDX-License-Identifier: Apache-2.0
// Quantize and PackedBinaryEmbedding.
#include "../../custom_ops/kernels/arithmetic.h"
#include "fuzz.h"
#include "rows_case.h"

namespace bebert {

void fuzz_quantize(Fuzz& fuzz) {
  Random& random = fuzz.random;
  int64_t members = 1 + random.below(3), tokens = draw_size(random, 200), channels = draw_size(random, 4000);
  limit_product(random.one_in(16) ? 400'000 : 40'000, {&tokens, &channels});
  if (random.one_in(50)) tokens = 0;
  const RowsCase c(random, random.pick(kCodeTypes), members, tokens, channels);
  const QuantizeInputs inputs(random, c);
  if (random.one_in(3)) {
    const float unit = std::exp2(static_cast<float>(random.below(60) - 30));
    const float spread = 2 * static_cast<float>(c.code.high - c.code.low);
    for (int64_t i = 0; i < inputs.x.size(); ++i) inputs.x[i] = unit * std::floor(random.uniform(-spread, spread));
    tie_exactly(random, c.code, unit, spread, inputs.shift, inputs.inverse_step);
  } else {
    for (const Array<float>* floats : {&inputs.x, &inputs.shift, &inputs.inverse_step}) vary_floats(random, *floats);
    if (c.x_members == c.members && random.one_in(3)) {
      const Array<float> y(inputs.x.size());
      for (int64_t i = 0; i < y.size(); ++i) y[i] = activate(inputs.x[i], c.activation);
      tie_nearly(random, c.code, c.channels, y, inputs.shift, inputs.inverse_step);
    }
  }
  fuzz.announce(Isa::scalar);
  const int64_t bytes = c.members * c.tokens * c.row_bytes();
  const Array<uint8_t> expected(bytes);
  TestHost host;
  run(c, inputs, Isa::scalar, expected, host);
  for (Isa isa : fuzz.paths) {
    fuzz.announce(isa);
    const Array<uint8_t> found(bytes, 1, fuzz.initial);
    fuzz.run(host, [&] { run(c, inputs, isa, found, host); });
    expect_same(found, expected, c.describe("quantize", isa));
  }
}

void fuzz_packed_binary_embedding(Fuzz& fuzz) {
  Random& random = fuzz.random;
  EmbeddingCase c = {1 + random.below(3), draw_size(random, 300), draw_size(random, 200), draw_size(random, 2000)};
  limit_product(40'000, {&c.tokens, &c.channels});
  if (random.one_in(50)) c.tokens = 0;
  const EmbeddingInputs inputs(random, c);
  vary_floats(random, inputs.scale);
  fuzz.announce(Isa::scalar);
  const int64_t size = c.members * c.tokens * c.channels;
  const Array<float> expected(size);
  TestHost host;
  run(c, inputs, Isa::scalar, expected, host);
  for (Isa isa : fuzz.paths) {
    fuzz.announce(isa);
    const Array<float> found(size, alignof(float), fuzz.initial);
    fuzz.run(host, [&] { run(c, inputs, isa, found, host); });
    expect_same(found, expected, c.describe(isa));
  }
}

}  // namespace bebert
