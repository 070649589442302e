// SPDX-License-Identifier: Apache-2.0
// Codes are unpacked to int16 values once per head; scores and contexts are then products of rows of int16.
#include "../arithmetic.h"
#include "../memory.h"
#include "binary_attention.h"

namespace bebert {

namespace {

// Exact for any n: a code is at most 255 in magnitude, so 2^14 products stay below 2^30.
int64_t dot(const int16_t* a, const int16_t* b, int64_t n) {
  constexpr int64_t kBlock = 1 << 14;
  int64_t total = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = n - begin < kBlock ? n : begin + kBlock;
    int32_t sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += int32_t(a[i]) * int32_t(b[i]);
    total += sum;
  }
  return total;
}

int16_t code_value(const uint8_t* row, int64_t channel, CodeType code) {
  if (code.width == 8) return static_cast<int16_t>(code.low + row[channel]);
  return static_cast<int16_t>(row[channel / 8] >> (channel % 8) & 1 ? code.high : code.low);
}

// values[i * row_stride + d * channel_stride] = value of channel d of row i.
void unpack(const HeadCodes& codes, CodeType code, int64_t head_size, int64_t row_stride, int64_t channel_stride,
            int16_t* values) {
  for (int64_t i = 0; i < codes.count; ++i) {
    const uint8_t* row = codes.rows + i * codes.row_bytes;
    int16_t* out = values + i * row_stride;
    for (int64_t d = 0; d < head_size; ++d) out[d * channel_stride] = code_value(row, codes.channel + d, code);
  }
}

void store(const AttentionHead& head, int64_t query, int64_t d, float z) {
  uint8_t* row = head.codes + query * head.codes_row_bytes;
  const int64_t channel = head.codes_channel + d;
  const CodeType code = head.config.output;
  if (code.width == 8) {
    row[channel] = quantize_level(z, code);
  } else {
    row[channel / 8] = static_cast<uint8_t>(row[channel / 8] | quantize_bit(z, code) << (channel % 8));
  }
}

// The buffers of one head.
struct Buffers {
  int16_t* query;        // [head_size]
  int16_t* key;          // [keys, head_size]
  int16_t* value;        // [head_size, keys]
  int64_t* score;        // [keys]
  float* exponential;    // [keys]
  int16_t* probability;  // [keys]

  Buffers(Workspace& workspace, int64_t head_size, int64_t keys)
      : query(workspace.take<int16_t>(head_size)),
        key(workspace.take<int16_t>(keys * head_size)),
        value(workspace.take<int16_t>(keys * head_size)),
        score(workspace.take<int64_t>(keys)),
        exponential(workspace.take<float>(keys)),
        probability(workspace.take<int16_t>(keys)) {}
};

void boolean_probabilities(const Buffers& b, int64_t keys) {
  for (int64_t j = 0; j < keys; ++j) b.probability[j] = b.score[j] > 0;
}

// Arguments of the exponentials, at most 0.
void score_differences(const AttentionHead& head, const Buffers& b, int64_t keys) {
  int64_t largest = b.score[0];
  for (int64_t j = 1; j < keys; ++j) largest = b.score[j] > largest ? b.score[j] : largest;
  for (int64_t j = 0; j < keys; ++j) b.exponential[j] = static_cast<float>(b.score[j] - largest) * head.score_scale;
}

// The same with a bias.
void biased_differences(const AttentionHead& head, const Buffers& b, int64_t query, int64_t keys) {
  const float* bias = head.bias - query;
  for (int64_t j = 0; j < keys; ++j) b.exponential[j] = static_cast<float>(b.score[j]) * head.score_scale + bias[j];
  float largest = b.exponential[0];
  for (int64_t j = 1; j < keys; ++j) largest = maximum(largest, b.exponential[j]);
  for (int64_t j = 0; j < keys; ++j) b.exponential[j] = b.exponential[j] - largest;
}

void softmax_probabilities(const AttentionHead& head, const Buffers& b, int64_t query, int64_t keys) {
  if (head.bias) {
    biased_differences(head, b, query, keys);
  } else {
    score_differences(head, b, keys);
  }
  for (int64_t j = 0; j < keys; ++j) b.exponential[j] = fixed_exp(b.exponential[j]);
  int64_t sum = 0;
  for (int64_t j = 0; j < keys; ++j) sum += static_cast<int32_t>(b.exponential[j]);

  const float r = head.probability_inverse_step / static_cast<float>(sum);
  const CodeType code = head.config.probability;
  if (code.width == 8) {
    for (int64_t j = 0; j < keys; ++j) {
      b.probability[j] = static_cast<int16_t>(code.low + quantize_level(b.exponential[j] * r, code));
    }
  } else {
    for (int64_t j = 0; j < keys; ++j) {
      b.probability[j] = static_cast<int16_t>(quantize_bit(b.exponential[j] * r, code) ? code.high : code.low);
    }
  }
}

}  // namespace

void binary_attention_scalar(const AttentionHead& head) {
  const int64_t head_size = head.config.head_size;
  const int64_t keys = head.key.count;
  Workspace workspace(head.scratch);
  const Buffers b(workspace, head_size, keys);
  unpack(head.key, head.config.input, head_size, head_size, 1, b.key);
  unpack(head.value, head.config.input, head_size, 1, keys, b.value);

  for (int64_t i = 0; i < head.query.count; ++i) {
    const HeadCodes query = {head.query.rows + i * head.query.row_bytes, head.query.row_bytes, 1, head.query.channel};
    unpack(query, head.config.input, head_size, head_size, 1, b.query);
    for (int64_t j = 0; j < keys; ++j) b.score[j] = dot(b.query, b.key + j * head_size, head_size);
    if (!head.config.softmax) {
      boolean_probabilities(b, keys);
    } else if (keys > 0) {
      softmax_probabilities(head, b, i, keys);
    }
    for (int64_t d = 0; d < head_size; ++d) {
      const float y = static_cast<float>(dot(b.probability, b.value + d * keys, keys)) * head.context_scale;
      store(head, i, d, (y + head.quantizer.shift[d]) * head.quantizer.inverse_step[d]);
    }
  }
}

size_t binary_attention_scratch_scalar(const AttentionConfig& config, int64_t, int64_t keys) {
  Workspace workspace(nullptr);
  Buffers(workspace, config.head_size, keys);
  return workspace.used();
}

}  // namespace bebert
