// SPDX-License-Identifier: Apache-2.0
#include "binary_attention_case.h"
#include "tests.h"

namespace bebert {

namespace {

constexpr int64_t kHeadSizes[] = {1, 3, 7, 8, 9, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129};
constexpr int64_t kLengths[] = {0, 1, 2, 3, 15, 16, 17, 33, 63, 64, 65, 128, 130};

void compare(const AttentionCase& c, const AttentionInputs& inputs) {
  const Array<uint8_t> expected(c.output_bytes());
  TestHost host;
  run(c, inputs, Isa::scalar, expected, host);
  for (Isa isa : paths()) {
    const Array<uint8_t> found(c.output_bytes());
    run(c, inputs, isa, found, host);
    expect_same(found, expected, c.describe(isa));
  }
}

void compare(Random& random, const AttentionCase& c) { compare(c, AttentionInputs(random, c)); }

struct Codes {
  CodeType input, probability, output;
};

constexpr Codes kTrained[] = {
    {{1, -1, 1}, {1, 0, 1}, {1, -1, 1}},           {{1, 0, 1}, {1, 0, 1}, {1, 0, 1}},
    {{1, -1, 1}, {8, 0, 15}, {8, -8, 7}},          {{8, -1, 1}, {8, 0, 3}, {8, -1, 1}},
    {{8, -2, 1}, {8, 0, 3}, {8, -2, 1}},           {{8, -8, 7}, {8, 0, 15}, {8, -8, 7}},
    {{8, -128, 127}, {8, 0, 255}, {8, -128, 127}}, {{8, 0, 255}, {8, 0, 255}, {8, 0, 255}},
};

// One sequence of the sizes of trained models.
AttentionCase one_sequence(const Codes& codes, bool softmax, int64_t head_size, int64_t queries, int64_t keys) {
  AttentionCase c;
  c.config = {2, head_size, softmax, codes.input, codes.probability, codes.output};
  c.one_tensor = false;
  c.members = 1;
  c.query_offsets = {0, queries};
  c.key_offsets = {0, keys};
  return c;
}

void test_long_sequences(Random& random) {
  constexpr int64_t kKeys[] = {255, 256, 257, 511, 512, 513, 1000, 1025}, kQueries[] = {1, 8, 31, 33, 41};
  for (const Codes& codes : kTrained) {
    for (int64_t head_size : {32, 64}) {
      const bool is_bool = codes.probability.width == 1;
      compare(random, one_sequence(codes, true, head_size, random.pick(kQueries), random.pick(kKeys)));
      if (is_bool) compare(random, one_sequence(codes, false, head_size, random.pick(kQueries), random.pick(kKeys)));
    }
  }
}

// Parameters no trained model has, but which the arithmetic of the op covers.
void test_extreme_parameters(Random& random) {
  constexpr float kScoreScales[] = {1e-30f, 1e-8f, 3e-7f, 1e-4f, 1.0f, 63.0f, 65.0f, 1e9f, 1e37f};
  constexpr float kProbabilityInverseSteps[] = {0.0f, -3.0f, 1e-6f, 1.0f, 1e3f, 1e9f, 2e9f, 1e15f};
  constexpr float kFactors[] = {-2.0f, -1e-4f, 0.0f, 1e-4f, 1.0f, 1e4f};
  for (const Codes& codes : kTrained) {
    for (float score_scale : kScoreScales) {
      const AttentionCase c =
          one_sequence(codes, true, random.pick(kHeadSizes), 1 + random.below(40), random.pick(kLengths));
      const AttentionInputs inputs(random, c);
      inputs.score_scale[random.below(2)] = score_scale;
      inputs.probability_inverse_step[random.below(2)] = random.pick(kProbabilityInverseSteps);
      inputs.context_scale[random.below(2)] *= random.pick(kFactors);
      for (int64_t i = random.below(2); i < inputs.inverse_step.size(); i += 2)
        inputs.inverse_step[i] *= random.pick(kFactors);
      compare(c, inputs);
    }
  }
}

void test_biases(Random& random) {
  constexpr int64_t kMostDistances[] = {0, 1, 2, 15, 16, 31, 63, 64, 128, 200};
  for (const Codes& codes : kTrained) {
    for (int64_t most_distance : kMostDistances) {
      AttentionCase c = one_sequence(codes, true, random.pick(kHeadSizes), random.below(70), random.pick(kLengths));
      c.most_distance = most_distance;
      const AttentionInputs inputs(random, c);
      compare(c, inputs);
      // A window: keys further away have no part.
      for (int64_t h = 0; h < c.members * c.config.heads; ++h) {
        inputs.distance_bias[h * c.biases()] = inputs.distance_bias[(h + 1) * c.biases() - 1] = -1e30f;
      }
      compare(c, inputs);
    }
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
          if (softmax && random.below(2)) c.most_distance = random.below(140);
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
  test_long_sequences(random);
  test_extreme_parameters(random);
  test_biases(random);
}

}  // namespace bebert
