// SPDX-License-Identifier: Apache-2.0
// For four queries at a time: scores, probabilities as bytes, contexts, codes. Scores are counted bits where the codes
// are bits, contexts where probabilities and values are; anything else is a product of bytes.
#include "../memory.h"
#include "binary_attention.h"
#include "x86_avx512_bits.h"
#include "x86_avx512_bytes.h"

namespace bebert {

namespace {

// The way a head is computed, and the sizes of its buffers.
struct Shape {
  bool bit_scores, bit_contexts;
  int64_t keys, padded_keys;           // to whole kBitKeys
  int64_t head_size, padded_channels;  // to whole pairs of vectors of int32

  Shape(const AttentionConfig& config, int64_t key_count)
      : bit_scores(config.input.width == 1 && config.head_size < kTableSize),
        bit_contexts(config.input.width == 1 && config.probability.width == 1 && config.probability.low == 0),
        keys(key_count),
        padded_keys(round_up(key_count, kBitKeys)),
        head_size(config.head_size),
        padded_channels(round_up(config.head_size, 32)) {}
};

bool too_long(int64_t head_size, int64_t keys) { return head_size > kMaximumLength || keys > kMaximumLength; }

struct Buffers {
  uint8_t* rows;           // [padded_keys, padded_channels]: scratch
  uint8_t* keys;           // byte planes, or transposed rows
  uint8_t* values;         // bit planes, or transposed rows
  uint8_t* query;          // [kRows, padded_channels]
  int32_t* key_term;       // [padded_keys]
  int32_t* value_term;     // [padded_channels]
  int32_t* scores;         // [kRows, padded_keys]
  uint8_t* probabilities;  // [kRows, padded_keys]
  int32_t* contexts;       // [kRows, padded_channels]
  ExponentialTable* exponentials;

  Buffers(Workspace& workspace, const Shape& s)
      : rows(workspace.take<uint8_t>(s.padded_keys * s.padded_channels)),
        keys(workspace.take<uint8_t>(s.padded_keys * s.padded_channels)),
        values(workspace.take<uint8_t>(s.padded_keys * s.padded_channels)),
        query(workspace.take<uint8_t>(kRows * s.padded_channels)),
        key_term(workspace.take<int32_t>(s.padded_keys)),
        value_term(workspace.take<int32_t>(s.padded_channels)),
        scores(workspace.take<int32_t>(kRows * s.padded_keys)),
        probabilities(workspace.take<uint8_t>(kRows * s.padded_keys)),
        contexts(workspace.take<int32_t>(kRows * s.padded_channels)),
        exponentials(workspace.take<ExponentialTable>(1)) {}
};

struct Head {
  const AttentionHead& head;
  const Shape& shape;
  const Buffers& b;

  void prepare_keys() const {
    const AttentionConfig& config = head.config;
    if (shape.bit_scores) {
      store_byte_planes(head.key, shape.head_size, shape.padded_keys, b.keys);
      b.exponentials->fill(config.input.high - config.input.low, head.score_scale);
      return;
    }
    unpack(head.key, config.input, signed_bytes(config.input), shape.head_size, shape.padded_channels,
           shape.padded_keys, b.rows);
    transpose_keys(b.rows, shape.padded_keys, shape.padded_channels, b.keys);
    for (int64_t j = 0; j < shape.padded_keys; j += 16) {
      sum_columns(b.keys + j * shape.padded_channels, shape.padded_channels, 64, config.input.low, b.key_term + j);
    }
  }

  void prepare_values() const {
    const AttentionConfig& config = head.config;
    if (shape.bit_contexts) {
      store_bit_planes(head.value, shape.head_size, shape.padded_keys, b.rows, reinterpret_cast<uint64_t*>(b.values));
      return;
    }
    unpack(head.value, config.input, signed_bytes(config.input), shape.head_size, shape.padded_channels,
           shape.padded_keys, b.rows);
    transpose_values(b.rows, shape.padded_keys, shape.padded_channels, b.values);
    for (int64_t d = 0; d < shape.padded_channels; d += 16) {
      sum_columns(b.values + d * 4, shape.padded_keys, shape.padded_channels * 4, config.probability.low,
                  b.value_term + d);
    }
  }

  HeadCodes queries(int64_t first, int64_t count) const {
    return {head.query.rows + first * head.query.row_bytes, head.query.row_bytes, count, head.query.channel};
  }

  void probabilities_by_bits(int64_t first, int64_t count) const {
    const CodeType input = head.config.input;
    const int64_t step = input.high - input.low;
    uint8_t query[kRows][kTableSize / 8] = {}, smallest[kRows];
    for (int64_t t = 0; t < count; ++t) {
      const uint8_t* row = head.query.rows + (first + t) * head.query.row_bytes;
      for (int64_t d = 0; d < shape.head_size; d += 64) {
        const uint64_t word = load_bits(row, head.query.channel + d, smaller(64, shape.head_size - d));
        memcpy(query[t] + d / 8, &word, sizeof(word));
      }
    }
    const auto measure = step == 2 ? distances<true> : distances<false>;
    measure(query[0], b.keys, shape.head_size, shape.keys, shape.padded_keys, b.probabilities, smallest);
    if (head.config.softmax) {
      softmax_bits(*b.exponentials, smallest, shape.head_size, shape.keys, head.probability_inverse_step,
                   head.config.probability, shape.padded_keys, b.probabilities);
    } else {
      for (int64_t t = 0; t < count; ++t) {
        boolean_bits(step, shape.head_size, shape.keys, b.probabilities + t * shape.padded_keys);
      }
    }
  }

  // dot = sum of level * signed + low * (sum of signed) + offset * (sum of level) + head_size * low * offset. The last
  // two are the same for all keys of a query: softmax does not see them.
  void probabilities_by_bytes(int64_t first, int64_t count) const {
    const CodeType input = head.config.input;
    const int64_t stride = shape.padded_channels;
    unpack(queries(first, count), input, level_bytes(input), shape.head_size, stride, kRows, b.query);
    for (int64_t j = 0; j < shape.padded_keys; j += 32) {
      multiply_bytes(b.query, stride, stride, b.keys + j * stride, 64, 16 * stride, b.key_term + j, b.scores + j,
                     shape.padded_keys);
    }
    if (head.config.softmax) {
      softmax_bytes(b.scores, shape.keys, head.score_scale, head.probability_inverse_step, head.config.probability,
                    shape.padded_keys, b.probabilities);
      return;
    }
    const int32_t offset = signed_offset(input);
    for (int64_t t = 0; t < count; ++t) {
      const int32_t levels = sum_bytes(b.query + t * stride, stride);
      const int32_t constant = offset * (levels + static_cast<int32_t>(shape.head_size) * input.low);
      boolean_bytes(b.scores + t * shape.padded_keys, shape.keys, constant, b.probabilities + t * shape.padded_keys);
    }
  }

  void contexts_by_bits() const {
    context_bits(b.probabilities, shape.padded_keys, reinterpret_cast<const uint64_t*>(b.values), shape.head_size,
                 shape.keys, head.config.input, reinterpret_cast<uint64_t*>(b.rows), b.contexts, shape.padded_channels);
  }

  // ctx = sum of level * signed + low * (sum of signed) + offset * (sum of level + keys * low).
  void contexts_by_bytes(int64_t count) const {
    const int64_t length = round_up(shape.keys, 4);
    for (int64_t d = 0; d < shape.padded_channels; d += 32) {
      multiply_bytes(b.probabilities, shape.padded_keys, length, b.values + d * 4, shape.padded_channels * 4, 64,
                     b.value_term + d, b.contexts + d, shape.padded_channels);
    }
    const int32_t offset = signed_offset(head.config.input);
    if (offset == 0) return;
    for (int64_t t = 0; t < count; ++t) {
      const int32_t levels = sum_bytes(b.probabilities + t * shape.padded_keys, shape.keys);
      const int32_t constant = offset * (levels + static_cast<int32_t>(shape.keys) * head.config.probability.low);
      int32_t* context = b.contexts + t * shape.padded_channels;
      for (int64_t d = 0; d < shape.padded_channels; ++d) context[d] += constant;
    }
  }

  void store_codes(int64_t query, const int32_t* context, const CodeRange& range) const {
    uint8_t* row = head.codes + query * head.codes_row_bytes;
    const __m512 scale = _mm512_set1_ps(head.context_scale);
    for (int64_t d = 0; d < shape.head_size; d += 16) {
      const __mmask16 lanes = first_lanes(shape.head_size - d);
      const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(context + d)), scale);
      const __m512 shift = _mm512_maskz_loadu_ps(lanes, head.quantizer.shift + d);
      const __m512 inverse_step = _mm512_maskz_loadu_ps(lanes, head.quantizer.inverse_step + d);
      const __m512 z = _mm512_mul_ps(_mm512_add_ps(y, shift), inverse_step);
      const int64_t channel = head.codes_channel + d;
      if (head.config.output.width == 8) {
        store_bytes(row + channel, lanes, range.levels(z));
        continue;
      }
      if (channel % 8 == 0 && lanes == 0xffff) {  // two whole bytes of this head
        store_mask(row + channel / 8, range.bits(lanes, z));
        continue;
      }
      uint32_t bits = static_cast<uint32_t>(range.bits(lanes, z)) << (channel % 8);
      for (uint8_t* byte = row + channel / 8; bits; ++byte, bits >>= 8) *byte = static_cast<uint8_t>(*byte | bits);
    }
  }

  void run() const {
    prepare_keys();
    prepare_values();
    const CodeRange range(head.config.output);
    // Rows after the last of four are multiplied too, and then ignored.
    memset(b.probabilities, 0, static_cast<size_t>(kRows * shape.padded_keys));
    for (int64_t first = 0; first < head.query.count; first += kRows) {
      const int64_t count = smaller(kRows, head.query.count - first);
      if (shape.keys > 0) {
        if (shape.bit_scores) {
          probabilities_by_bits(first, count);
        } else {
          probabilities_by_bytes(first, count);
        }
      }
      if (shape.bit_contexts) {
        contexts_by_bits();
      } else {
        contexts_by_bytes(count);
      }
      for (int64_t t = 0; t < count; ++t) store_codes(first + t, b.contexts + t * shape.padded_channels, range);
    }
  }
};

}  // namespace

void binary_attention_x86_avx512(const AttentionHead& head) {
  const Shape shape(head.config, head.key.count);
  if (too_long(shape.head_size, shape.keys)) return binary_attention_scalar(head);
  Workspace workspace(head.scratch);
  const Buffers buffers(workspace, shape);
  Head{head, shape, buffers}.run();
}

size_t binary_attention_scratch_x86_avx512(const AttentionConfig& config, int64_t queries, int64_t keys) {
  if (too_long(config.head_size, keys)) return binary_attention_scratch_scalar(config, queries, keys);
  Workspace workspace(nullptr);
  Buffers(workspace, Shape(config, keys));
  return workspace.used();
}

}  // namespace bebert
