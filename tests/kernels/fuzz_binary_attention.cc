// SPDX-License-Identifier: Apache-2.0
#include "binary_attention_case.h"
#include "fuzz.h"

namespace bebert {

namespace {

// Mostly few keys; at 600, and at head sizes above 258, sums of 8-bit codes pass 2^24.
int64_t draw_length(Random& random) {
  return random.one_in(8) ? 0 : random.one_in(32) ? 500 + random.below(150) : draw_size(random, 140);
}

AttentionCase draw_case(Random& random) {
  AttentionCase c;
  c.config.heads = draw_size(random, 12);
  c.config.head_size = draw_size(random, random.one_in(16) ? 400 : 130);
  c.config.input = random.pick(kCodeTypes);
  c.config.output = random.pick(kCodeTypes);
  c.config.softmax = !random.one_in(4);
  c.config.probability = c.config.softmax ? random.pick(kCodeTypes) : CodeType{1, 0, 1};
  if (c.config.softmax && random.one_in(3)) c.most_distance = random.below(random.one_in(2) ? 8 : 200);
  c.one_tensor = random.one_in(2);
  c.members = 1 + random.below(2);
  c.lead = random.one_in(4) ? draw_size(random, 70) : 0;
  c.query_offsets = c.key_offsets = {0};
  const int64_t most = random.one_in(32) ? 12'000'000 : 800'000;
  for (int64_t s = random.below(4); s >= 0; --s) {
    int64_t keys = draw_length(random);
    int64_t queries = c.one_tensor ? keys : random.one_in(4) ? 1 : draw_length(random);
    if (keys > 0) limit_product(most, {&c.members, &queries, &keys, &c.config.heads, &c.config.head_size});
    if (c.one_tensor) queries = keys;
    c.query_offsets.push_back(c.query_offsets.back() + queries);
    c.key_offsets.push_back(c.key_offsets.back() + keys);
  }
  return c;
}

void vary(Random& random, const AttentionCase& c, const AttentionInputs& inputs) {
  const CodeType input = c.config.input, probability = c.config.probability;
  const int64_t keys = c.key_offsets.back();
  vary_codes(random, input, c.members * c.query_offsets.back(), c.query_channels(), inputs.query.data());
  if (!c.one_tensor) vary_codes(random, input, c.members * keys, c.key_channels(), inputs.keys.data());
  // With a bias, scaled scores must not overflow.
  if (!c.biased()) vary_positive_floats(random, inputs.score_scale);
  if (random.one_in(2)) {
    constexpr float kBiases[] = {0.0f, -0.0f, 1e-20f, -1.0f, 17.0f, -40.0f, -1e9f, -3e38f};
    for (int64_t i = random.below(4); i < inputs.distance_bias.size(); i += 1 + random.below(20)) {
      inputs.distance_bias[i] = random.pick(kBiases);
    }
  }
  vary_floats(random, inputs.probability_inverse_step);
  if (random.one_in(4)) {
    // Where the scores of a sequence are alike, probabilities lie at ties.
    for (int64_t i = 0; i < inputs.score_scale.size(); ++i) {
      const size_t sequence = static_cast<size_t>(random.below(static_cast<int64_t>(c.key_offsets.size()) - 1));
      const int64_t length = c.key_offsets[sequence + 1] - c.key_offsets[sequence];
      const float level = static_cast<float>(random.below(probability.high - probability.low)) + 0.5f;
      inputs.probability_inverse_step[i] = static_cast<float>(length) * level;
      if (random.one_in(2)) inputs.score_scale[i] = 1e-20f;
    }
  }
  if (random.one_in(2)) {
    const float unit = std::exp2(static_cast<float>(random.below(60) - 30));
    for (int64_t i = 0; i < inputs.context_scale.size(); ++i) inputs.context_scale[i] = unit;
    const float length = static_cast<float>(keys > 0 ? keys : 1);
    const float spread = largest_value(input) * largest_value(probability) * std::sqrt(length);
    tie_exactly(random, c.config.output, unit, spread, inputs.shift, inputs.inverse_step);
  } else {
    for (const Array<float>* floats : {&inputs.context_scale, &inputs.shift, &inputs.inverse_step}) {
      vary_floats(random, *floats);
    }
  }
}

}  // namespace

void fuzz_binary_attention(Fuzz& fuzz) {
  const AttentionCase c = draw_case(fuzz.random);
  const AttentionInputs inputs(fuzz.random, c);
  vary(fuzz.random, c, inputs);
  fuzz.announce(Isa::scalar);
  const Array<uint8_t> expected(c.output_bytes());
  TestHost host;
  run(c, inputs, Isa::scalar, expected, host);
  for (Isa isa : fuzz.paths) {
    fuzz.announce(isa);
    const Array<uint8_t> found(c.output_bytes(), 1, fuzz.initial);
    fuzz.run(host, [&] { run(c, inputs, isa, found, host); });
    expect_same(found, expected, c.describe(isa));
  }
}

}  // namespace bebert
