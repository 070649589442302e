// SPDX-License-Identifier: Apache-2.0
#include "../../custom_ops/kernels/binary_attention/binary_attention.h"

#include "support.h"

namespace bebert {

namespace {

constexpr int64_t kHeadSizes[] = {1, 3, 7, 8, 9, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129};
constexpr int64_t kLengths[] = {0, 1, 2, 3, 15, 16, 17, 33, 63, 64, 65, 128, 130};

struct Case {
  AttentionConfig config;
  bool one_tensor;
  int64_t members;
  std::vector<int64_t> query_offsets, key_offsets;

  void describe(Isa isa, char (&text)[256]) const {
    const AttentionConfig& a = config;
    std::snprintf(text, sizeof(text),
                  "binary_attention %s: members %lld, sequences %d, heads %lld, head size %lld, softmax %d, input [%d, "
                  "%d, %d], probability [%d, %d, %d], output [%d, %d, %d]",
                  name(isa), static_cast<long long>(members), static_cast<int>(key_offsets.size()) - 1,
                  static_cast<long long>(a.heads), static_cast<long long>(a.head_size), a.softmax, a.input.width,
                  a.input.low, a.input.high, a.probability.width, a.probability.low, a.probability.high, a.output.width,
                  a.output.low, a.output.high);
  }
};

struct Inputs {
  int64_t channels, query_channels;
  Array<uint8_t> query, keys;
  Array<float> score_scale, probability_inverse_step, context_scale, shift, inverse_step;

  Inputs(Random& random, const Case& c)
      : channels(c.config.heads * c.config.head_size),
        query_channels(c.one_tensor ? 3 * channels : channels),
        query(c.members * c.query_offsets.back() * code_row_bytes(c.config.input, query_channels)),
        keys(c.one_tensor ? 0 : c.members * c.key_offsets.back() * code_row_bytes(c.config.input, 2 * channels)),
        score_scale(c.members * c.config.heads),
        probability_inverse_step(c.members * c.config.heads),
        context_scale(c.members * c.config.heads),
        shift(c.members * channels),
        inverse_step(c.members * channels) {
    const CodeType input = c.config.input;
    fill_codes(random, input, c.members * c.query_offsets.back(), query_channels, query.data());
    if (!c.one_tensor) fill_codes(random, input, c.members * c.key_offsets.back(), 2 * channels, keys.data());
    const float largest = static_cast<float>(input.high > -input.low ? input.high : -input.low);
    const float spread = std::sqrt(static_cast<float>(c.config.head_size)) * largest * largest;
    fill_floats(random, 0.1f / spread, 4.0f / spread, score_scale);
    const float levels = static_cast<float>(c.config.probability.high);
    fill_floats(random, levels, 20.0f * levels, probability_inverse_step);
    fill_floats(random, 0.1f / (largest * levels), 2.0f / (largest * levels), context_scale);
    fill_quantizer(random, c.config.output, shift, inverse_step);
  }
};

struct Outputs {
  Array<uint8_t> codes;

  Outputs(const Case& c, const Inputs& inputs, Isa isa)
      : codes(c.members * c.query_offsets.back() * code_row_bytes(c.config.output, inputs.channels)) {
    const CodeType input = c.config.input;
    const int64_t queries = c.query_offsets.back(), keys = c.key_offsets.back();
    BinaryAttentionArguments a = {};
    a.config = c.config;
    a.query = {inputs.query.data(), queries, code_row_bytes(input, inputs.query_channels), 0};
    if (c.one_tensor) {
      a.key = a.value = a.query;
      a.key.channel = inputs.channels;
      a.value.channel = 2 * inputs.channels;
    } else {
      a.key = a.value = {inputs.keys.data(), keys, code_row_bytes(input, 2 * inputs.channels), 0};
      a.value.channel = inputs.channels;
    }
    a.query_offsets = c.query_offsets.data();
    a.key_offsets = c.key_offsets.data();
    a.members = c.members;
    a.sequences = static_cast<int64_t>(c.key_offsets.size()) - 1;
    a.score_scale = inputs.score_scale.data();
    a.probability_inverse_step = inputs.probability_inverse_step.data();
    a.context_scale = inputs.context_scale.data();
    a.shift = inputs.shift.data();
    a.inverse_step = inputs.inverse_step.data();
    a.codes = codes.data();
    TestHost host;
    expect(binary_attention(isa, a, host.host()), "binary_attention: enough memory");
    expect(host.allocated == 0, "binary_attention: releases what it allocates");
  }
};

void compare(Random& random, const Case& c) {
  const Inputs inputs(random, c);
  const Outputs expected(c, inputs, Isa::scalar);
  for (Isa isa : paths()) {
    const Outputs found(c, inputs, isa);
    char text[256];
    c.describe(isa, text);
    expect_same(found.codes, expected.codes, text);
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
          Case c;
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
