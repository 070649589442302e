// SPDX-License-Identifier: Apache-2.0
#include "../kernels/binary_attention/binary_attention.h"
#include "op.h"
#include "ops.h"
#include "tensors.h"

namespace bebert {

namespace {

// BinaryAttention and BiasedBinaryAttention.
struct AttentionNode {
  Node node;
  Isa isa;
  AttentionConfig config;
  int64_t channels[3];  // of query, key and value

  OrtStatus* read_attributes(const Attributes& attributes) {
    BEBERT_TRY(attributes.integer("heads", 1, kMaxSize, &config.heads));
    BEBERT_TRY(attributes.integer("head_size", 1, kMaxSize, &config.head_size));
    BEBERT_TRY(attributes.integers("channels", 3, 0, kMaxSize, channels));
    BEBERT_TRY(attributes.code("input_code", &config.input));
    BEBERT_TRY(attributes.code("probability_code", &config.probability));
    return attributes.code("output_code", &config.output);
  }

  // Query, key or value: enough channels for all heads.
  OrtStatus* read_codes(const Call& call, size_t index, const char* name, Dim& members, Dim& tokens,
                        AttentionCodes* codes) const {
    Dim row_bytes{"bytes of a row"};
    Tensor tensor;
    BEBERT_TRY(call.input(index, name, {members, tokens, row_bytes}, &tensor));
    const bool packed = config.input.width == 1;
    const int64_t needed = channels[index] + config.heads * config.head_size;
    const int64_t found = packed ? row_bytes.size * 8 : row_bytes.size;
    if (found < needed || (packed && row_bytes.size % 8 != 0)) {
      Text text;
      text << tensor;
      text << " has rows of " << row_bytes.size << " bytes, expected " << (packed ? "a multiple of 8 and " : "")
           << "at least " << (packed ? packed_row_bytes(needed) : needed) << " for " << needed << " channels";
      return node.error(text);
    }
    *codes = {tensor.codes(), tokens.size, row_bytes.size, channels[index]};
    return nullptr;
  }

  // Sequences partition `tokens`.
  OrtStatus* check_offsets(const Tensor& offsets, int64_t tokens) const {
    const int64_t last = offsets.dims[0] - 1;
    const int64_t* values = offsets.integers();
    Text text;
    text << offsets;
    if (values[0] != 0) return node.error(text << " starts at " << values[0] << ", expected 0");
    for (int64_t b = 0; b < last; ++b) {
      if (values[b + 1] >= values[b]) continue;
      return node.error(text << " falls from " << values[b] << " to " << values[b + 1] << " at position " << b + 1
                             << ", expected it never to decrease");
    }
    if (values[last] == tokens) return nullptr;
    return node.error(text << " ends at " << values[last] << ", expected the number of tokens, " << tokens);
  }

  OrtStatus* read_distance_bias(const Call& call, Dim& members, Dim& heads, BinaryAttentionArguments* arguments) const {
    Dim distances{"2 * distance + 1", 1};
    Tensor tensor;
    BEBERT_TRY(call.input(10, "distance_bias", {members, heads, distances}, &tensor));
    if (distances.size % 2 == 0) {
      Text text;
      text << tensor;
      return node.error(text << " has " << distances.size << " numbers for each head, expected an odd number");
    }
    arguments->distance_bias = tensor.floats();
    arguments->most_distance = distances.size / 2;
    return nullptr;
  }

  OrtStatus* compute(OrtKernelContext* context, bool biased) const {
    const Call call(node, context);
    Dim members{"members"}, query_tokens{"query tokens"}, key_tokens{"key tokens"}, offsets{"sequences + 1", 1};
    Dim heads{"heads", 0, config.heads}, hidden{"heads * head_size", 0, config.heads * config.head_size};
    Tensor query_offsets, key_offsets, score_scale, probability_inverse_step, context_scale, shift, inverse_step;
    BinaryAttentionArguments arguments = {};
    BEBERT_TRY(call.input(5, "score_scale", {members, heads}, &score_scale));
    BEBERT_TRY(call.input(6, "probability_inverse_step", {members, heads}, &probability_inverse_step));
    BEBERT_TRY(call.input(7, "context_scale", {members, heads}, &context_scale));
    BEBERT_TRY(call.input(8, "shift", {members, hidden}, &shift));
    BEBERT_TRY(call.input(9, "inverse_step", {members, hidden}, &inverse_step));
    BEBERT_TRY(read_codes(call, 0, "query", members, query_tokens, &arguments.query));
    BEBERT_TRY(read_codes(call, 1, "key", members, key_tokens, &arguments.key));
    BEBERT_TRY(read_codes(call, 2, "value", members, key_tokens, &arguments.value));
    BEBERT_TRY(call.input(3, "query_offsets", {offsets}, &query_offsets));
    BEBERT_TRY(call.input(4, "key_offsets", {offsets}, &key_offsets));
    BEBERT_TRY(check_offsets(query_offsets, query_tokens.size));
    BEBERT_TRY(check_offsets(key_offsets, key_tokens.size));
    if (biased) BEBERT_TRY(read_distance_bias(call, members, heads, &arguments));
    for (int64_t i = 0; i < members.size * config.heads; ++i) {
      if (score_scale.floats()[i] > 0) continue;
      return node.error(Text() << "input 5 (score_scale) has a number that is not positive at position ["
                               << i / config.heads << ", " << i % config.heads << "], expected only positive ones");
    }

    arguments.config = config;
    arguments.query_offsets = query_offsets.integers();
    arguments.key_offsets = key_offsets.integers();
    arguments.members = members.size;
    arguments.sequences = offsets.size - 1;
    arguments.score_scale = score_scale.floats();
    arguments.probability_inverse_step = probability_inverse_step.floats();
    arguments.context_scale = context_scale.floats();
    arguments.shift = shift.floats();
    arguments.inverse_step = inverse_step.floats();
    const int64_t row_bytes = code_row_bytes(config.output, hidden.size);
    BEBERT_TRY(call.output(0, {members.size, query_tokens.size, row_bytes}, &arguments.codes));
    KernelHost host(node.api, context);
    BEBERT_TRY(host.open());
    return binary_attention(isa, arguments, host.host()) ? nullptr : node.out_of_memory();
  }

  void destroy() {}
};

struct BinaryAttentionKernel : AttentionNode {
  static constexpr const char* kName = "bebert::BinaryAttention";
  using Inputs = Types<ORT_UINT8, ORT_UINT8, ORT_UINT8, ORT_INT64, ORT_INT64, ORT_FLOAT, ORT_FLOAT, ORT_FLOAT,
                       ORT_FLOAT, ORT_FLOAT>;
  using Outputs = Types<ORT_UINT8>;

  OrtStatus* create(const OrtKernelInfo* info) {
    const Attributes attributes = {node, info};
    int64_t softmax = 0;
    BEBERT_TRY(read_attributes(attributes));
    BEBERT_TRY(attributes.integer("softmax", 0, 1, &softmax));
    config.softmax = softmax == 1;
    const bool boolean = config.probability.width == 1 && config.probability.low == 0;
    if (config.softmax || boolean) return nullptr;
    return node.error(Text() << "attribute probability_code is not bool [1, 0, 1], expected so where softmax is 0");
  }

  OrtStatus* compute(OrtKernelContext* context) const { return AttentionNode::compute(context, false); }
};

struct BiasedBinaryAttentionKernel : AttentionNode {
  static constexpr const char* kName = "bebert::BiasedBinaryAttention";
  using Inputs = Types<ORT_UINT8, ORT_UINT8, ORT_UINT8, ORT_INT64, ORT_INT64, ORT_FLOAT, ORT_FLOAT, ORT_FLOAT,
                       ORT_FLOAT, ORT_FLOAT, ORT_FLOAT>;
  using Outputs = Types<ORT_UINT8>;

  OrtStatus* create(const OrtKernelInfo* info) {
    config.softmax = true;
    return read_attributes({node, info});
  }

  OrtStatus* compute(OrtKernelContext* context) const { return AttentionNode::compute(context, true); }
};

}  // namespace

const OrtCustomOp* binary_attention_op(Isa isa) { return op_for<BinaryAttentionKernel>(isa); }
const OrtCustomOp* biased_binary_attention_op(Isa isa) { return op_for<BiasedBinaryAttentionKernel>(isa); }

}  // namespace bebert
