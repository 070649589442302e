// SPDX-License-Identifier: Apache-2.0
// One head, four queries at a time: scores, probabilities as bytes, contexts, codes. Scores are counted bits where the
// codes are bits, contexts where probabilities and values are; anything else is a product of bytes, by `Products`.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_HEAD_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_HEAD_H_

#include "../memory.h"
#include "arm64_neon_bits.h"
#include "arm64_neon_bytes.h"

namespace bebert {
namespace {

// The way a head is computed, and the sizes of its buffers.
struct Shape {
  bool bit_scores, bit_contexts;
  int64_t keys, padded_keys;           // to whole planes, at least one
  int64_t head_size, padded_channels;  // to whole planes

  Shape(const AttentionConfig& config, int64_t key_count)
      : bit_scores(config.input.width == 1 && config.head_size < kTableSize),
        bit_contexts(config.input.width == 1 && config.probability.width == 1 && config.probability.low == 0),
        keys(key_count),
        padded_keys(key_count > 0 ? round_up(key_count, kPlane) : kPlane),
        head_size(config.head_size),
        padded_channels(round_up(config.head_size, kPlane)) {}
};

inline bool too_long(int64_t head_size, int64_t keys) { return head_size > kMaximumLength || keys > kMaximumLength; }

template <class Products>
struct Buffers {
  using Element = typename Products::Element;

  uint8_t* rows;           // [padded_keys, padded_channels]: scratch
  Element* keys;           // columns or planes
  Element* values;         // columns or planes
  uint8_t* query;          // [kRows, padded_channels]
  Element* operands;       // [kRows, padded_channels or padded_keys]
  int32_t* key_term;       // [padded_keys]
  int32_t* value_term;     // [padded_channels]
  int32_t* scores;         // [kRows, padded_keys]
  uint8_t* probabilities;  // [kRows, padded_keys]
  uint8_t* bits;           // [kRows, padded_keys / 8]
  int32_t* contexts;       // [kRows, padded_channels]
  ExponentialTable* exponentials;

  Buffers(Workspace& workspace, const Shape& s)
      : rows(workspace.take<uint8_t>(s.padded_keys * s.padded_channels)),
        keys(workspace.take<Element>(s.padded_keys * s.padded_channels)),
        values(workspace.take<Element>(s.padded_keys * s.padded_channels)),
        query(workspace.take<uint8_t>(kRows * s.padded_channels)),
        operands(workspace.take<Element>(kRows * (s.padded_channels + s.padded_keys))),
        key_term(workspace.take<int32_t>(s.padded_keys)),
        value_term(workspace.take<int32_t>(s.padded_channels)),
        scores(workspace.take<int32_t>(kRows * s.padded_keys)),
        probabilities(workspace.take<uint8_t>(kRows * s.padded_keys)),
        bits(workspace.take<uint8_t>(kRows * s.padded_keys / 8)),
        contexts(workspace.take<int32_t>(kRows * s.padded_channels)),
        exponentials(workspace.take<ExponentialTable>(1)) {}
};

template <class Products>
struct Head {
  const AttentionHead& head;
  const Shape& shape;
  const Buffers<Products>& b;

  uint8_t* key_planes() const { return reinterpret_cast<uint8_t*>(b.keys); }
  uint8_t* value_planes() const { return reinterpret_cast<uint8_t*>(b.values); }

  // Bytes of probabilities: their values less byte_offset or, where their bits are wanted, masks.
  ProbabilityBytes probability_bytes() const {
    const CodeType code = head.config.probability;
    if (shape.bit_contexts) return {code, 0, 0, 255};
    const int32_t offset = byte_offset(code);
    const uint8_t low = static_cast<uint8_t>(code.low - offset);
    return {code, low, low, static_cast<uint8_t>(code.high - offset)};
  }

  void prepare_keys() const {
    const AttentionConfig& config = head.config;
    if (shape.bit_scores) {
      store_key_planes(head.key, shape.head_size, shape.padded_keys, key_planes());
      b.exponentials->fill(shape.head_size, config.input.high - config.input.low, head.score_scale);
      return;
    }
    unpack(head.key, config.input, shape.head_size, shape.padded_channels, shape.padded_keys, b.rows);
    Products::store_keys(b.rows, shape.padded_keys, shape.padded_channels, b.keys);
    sum_rows(b.rows, shape.padded_keys, shape.padded_channels, byte_offset(config.input), b.key_term);
  }

  void prepare_values() const {
    const AttentionConfig& config = head.config;
    if (shape.bit_contexts) {
      store_value_planes(head.value, shape.head_size, shape.padded_keys, value_planes());
      return;
    }
    unpack(head.value, config.input, shape.head_size, shape.padded_channels, shape.padded_keys, b.rows);
    Products::store_values(b.rows, shape.padded_keys, shape.padded_channels, b.values);
    sum_columns(b.rows, shape.keys, shape.padded_channels, byte_offset(config.probability), b.value_term);
  }

  HeadCodes queries(int64_t first, int64_t count) const {
    return {head.query.rows + first * head.query.row_bytes, head.query.row_bytes, count, head.query.channel};
  }

  void softmax_of_bits(uint8_t smallest, uint8_t* row) const {
    const int64_t entries = shape.head_size - smallest + 1;
    const auto softmax = entries <= 32 ? softmax_bits<2> : entries <= 64 ? softmax_bits<4> : softmax_bits<8>;
    softmax(*b.exponentials, smallest, shape.keys, head.probability_inverse_step, probability_bytes(), row);
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
    measure(query[0], key_planes(), shape.head_size, shape.keys, shape.padded_keys, b.probabilities, smallest);
    for (int64_t t = 0; t < kRows; ++t) {
      uint8_t* row = b.probabilities + t * shape.padded_keys;
      if (head.config.softmax) {
        softmax_of_bits(smallest[t], row);
      } else {
        boolean_bits(step, shape.head_size, shape.keys, probability_bytes().one, row);
      }
    }
  }

  // The sum of the queries' bytes and the length times both offsets are the same for all keys: softmax does not see
  // them.
  void probabilities_by_bytes(int64_t first, int64_t count) const {
    const CodeType input = head.config.input;
    const int64_t stride = shape.padded_channels, length = round_up(shape.head_size, 16);
    unpack(queries(first, count), input, shape.head_size, stride, kRows, b.query);
    Products::convert_row(b.query, kRows * stride, b.operands);
    const int32_t most = largest_byte(input) * largest_byte(input);
    for (int64_t j = 0; j < shape.keys; j += kColumns) {
      Products::multiply(b.operands, stride, length, b.keys + j * stride, most, b.key_term + j, b.scores + j,
                         shape.padded_keys);
    }
    const int32_t offset = byte_offset(input);
    for (int64_t t = 0; t < count; ++t) {
      int32_t* scores = b.scores + t * shape.padded_keys;
      uint8_t* row = b.probabilities + t * shape.padded_keys;
      if (head.config.softmax) {
        softmax_bytes(scores, shape.keys, head.score_scale, head.probability_inverse_step, probability_bytes(), row);
        continue;
      }
      const int32_t bytes = offset == 0 ? 0 : sum_bytes(b.query + t * stride, stride);
      const int32_t constant = offset * (bytes + static_cast<int32_t>(shape.head_size) * offset);
      boolean_bytes(scores, shape.keys, constant, probability_bytes().one, row);
    }
  }

  void contexts_by_bits() const {
    const auto contexts = shape.head_size <= 32 ? context_bits<2> : context_bits<4>;
    contexts(b.probabilities, shape.padded_keys, value_planes(), shape.head_size, head.config.input, b.bits, b.contexts,
             shape.padded_channels);
  }

  void contexts_by_bytes(int64_t count) const {
    const AttentionConfig& config = head.config;
    const int64_t stride = shape.padded_keys, length = round_up(shape.keys, 16);
    Products::convert_row(b.probabilities, kRows * stride, b.operands);
    const int32_t most = largest_byte(config.input) * largest_byte(config.probability);
    for (int64_t d = 0; d < shape.head_size; d += kColumns) {
      Products::multiply(b.operands, stride, length, b.values + d * stride, most, b.value_term + d, b.contexts + d,
                         shape.padded_channels);
    }
    const int32_t offset = byte_offset(config.input);
    if (offset == 0) return;
    for (int64_t t = 0; t < count; ++t) {
      const int32_t bytes = sum_bytes(b.probabilities + t * stride, length);
      const int32_t constant = offset * (bytes + static_cast<int32_t>(shape.keys) * byte_offset(config.probability));
      int32_t* context = b.contexts + t * shape.padded_channels;
      for (int64_t d = 0; d < shape.padded_channels; ++d) context[d] += constant;
    }
  }

  void run() const {
    prepare_keys();
    prepare_values();
    const CodeRange range(head.config.output);
    // Without keys nothing else writes them. Rows after the last of four are multiplied too, and then ignored.
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
      store_codes(head, range, b.contexts, shape.padded_channels, count, head.codes + first * head.codes_row_bytes);
    }
  }
};

template <class Products>
inline void run_head(const AttentionHead& head) {
  const Shape shape(head.config, head.key.count);
  if (too_long(shape.head_size, shape.keys)) return binary_attention_scalar(head);
  Workspace workspace(head.scratch);
  const Buffers<Products> buffers(workspace, shape);
  Head<Products>{head, shape, buffers}.run();
}

template <class Products>
inline size_t head_scratch(const AttentionConfig& config, int64_t queries, int64_t keys) {
  if (too_long(config.head_size, keys)) return binary_attention_scratch_scalar(config, queries, keys);
  Workspace workspace(nullptr);
  Buffers<Products>(workspace, Shape(config, keys));
  return workspace.used();
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_HEAD_H_
