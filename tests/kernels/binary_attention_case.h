// SPDX-License-Identifier: Apache-2.0
// One call of binary attention, for tests that compare CPU paths.
#ifndef BEBERT_EDGE_TESTS_KERNELS_BINARY_ATTENTION_CASE_H_
#define BEBERT_EDGE_TESTS_KERNELS_BINARY_ATTENTION_CASE_H_

#include "../../custom_ops/kernels/binary_attention/binary_attention.h"
#include "support.h"
#include "test_host.h"

namespace bebert {

struct AttentionCase {
  AttentionConfig config;
  bool one_tensor;  // of query, key and value; else key and value are one
  int64_t members;
  std::vector<int64_t> query_offsets, key_offsets;
  int64_t most_distance = -1;  // of the bias; -1: none
  int64_t lead = 0;            // channels of both tensors that belong to nobody, before the first

  bool biased() const { return most_distance >= 0; }
  int64_t biases() const { return biased() ? 2 * most_distance + 1 : 0; }
  int64_t channels() const { return config.heads * config.head_size; }
  int64_t query_channels() const { return lead + (one_tensor ? 3 : 1) * channels(); }
  int64_t key_channels() const { return lead + 2 * channels(); }
  int64_t query_bytes() const {
    return members * query_offsets.back() * code_row_bytes(config.input, query_channels());
  }
  int64_t key_bytes() const {
    return one_tensor ? 0 : members * key_offsets.back() * code_row_bytes(config.input, key_channels());
  }
  int64_t output_bytes() const { return members * query_offsets.back() * code_row_bytes(config.output, channels()); }

  std::string describe(Isa isa) const {
    std::string lengths;
    for (size_t s = 1; s < key_offsets.size(); ++s) {
      lengths += format(" %dx%d", static_cast<int>(query_offsets[s] - query_offsets[s - 1]),
                        static_cast<int>(key_offsets[s] - key_offsets[s - 1]));
    }
    return format(
        "binary_attention %s: members %d, queries x keys%s, heads %d from channel %d on, head size %d, softmax %d, "
        "bias up to distance %d, input %s, probability %s, output %s",
        name(isa), static_cast<int>(members), lengths.c_str(), static_cast<int>(config.heads), static_cast<int>(lead),
        static_cast<int>(config.head_size), config.softmax, static_cast<int>(most_distance), text(config.input).c_str(),
        text(config.probability).c_str(), text(config.output).c_str());
  }
};

struct AttentionInputs {
  Array<uint8_t> query, keys;
  Array<float> score_scale, probability_inverse_step, context_scale, distance_bias, shift, inverse_step;

  // Scores, probabilities and contexts that take all codes.
  AttentionInputs(Random& random, const AttentionCase& c)
      : query(c.query_bytes()),
        keys(c.key_bytes()),
        score_scale(c.members * c.config.heads),
        probability_inverse_step(c.members * c.config.heads),
        context_scale(c.members * c.config.heads),
        distance_bias(c.members * c.config.heads * c.biases()),
        shift(c.members * c.channels()),
        inverse_step(c.members * c.channels()) {
    const CodeType input = c.config.input;
    fill_codes(random, input, c.members * c.query_offsets.back(), c.query_channels(), query.data());
    if (!c.one_tensor) fill_codes(random, input, c.members * c.key_offsets.back(), c.key_channels(), keys.data());
    const float largest = largest_value(input), levels = static_cast<float>(c.config.probability.high);
    const float spread = std::sqrt(static_cast<float>(c.config.head_size)) * largest * largest;
    fill_floats(random, 0.1f / spread, 4.0f / spread, score_scale);
    fill_floats(random, levels, 20.0f * levels, probability_inverse_step);
    fill_floats(random, 0.1f / (largest * levels), 2.0f / (largest * levels), context_scale);
    fill_floats(random, -4.0f, 4.0f, distance_bias);
    fill_quantizer(random, c.config.output, shift, inverse_step);
  }
};

inline void run(const AttentionCase& c, const AttentionInputs& inputs, Isa isa, const Array<uint8_t>& codes,
                TestHost& host) {
  const int64_t queries = c.query_offsets.back(), keys = c.key_offsets.back();
  BinaryAttentionArguments a = {};
  a.config = c.config;
  a.query = {inputs.query.data(), queries, code_row_bytes(c.config.input, c.query_channels()), c.lead};
  if (c.one_tensor) {
    a.key = a.value = a.query;
    a.key.channel = c.lead + c.channels();
    a.value.channel = c.lead + 2 * c.channels();
  } else {
    a.key = a.value = {inputs.keys.data(), keys, code_row_bytes(c.config.input, c.key_channels()), c.lead};
    a.value.channel = c.lead + c.channels();
  }
  a.query_offsets = c.query_offsets.data();
  a.key_offsets = c.key_offsets.data();
  a.members = c.members;
  a.sequences = static_cast<int64_t>(c.key_offsets.size()) - 1;
  a.score_scale = inputs.score_scale.data();
  a.probability_inverse_step = inputs.probability_inverse_step.data();
  a.context_scale = inputs.context_scale.data();
  a.distance_bias = c.biased() ? inputs.distance_bias.data() : nullptr;
  a.most_distance = c.most_distance;
  a.shift = inputs.shift.data();
  a.inverse_step = inputs.inverse_step.data();
  a.codes = codes.data();
  const bool enough = binary_attention(isa, a, host.host());
  expect(enough == !host.refused(), "binary_attention: says whether there was enough memory");
  expect(host.all_released(), "binary_attention: releases what it allocates");
}

}  // namespace bebert

#endif  // BEBERT_EDGE_TESTS_KERNELS_BINARY_ATTENTION_CASE_H_
