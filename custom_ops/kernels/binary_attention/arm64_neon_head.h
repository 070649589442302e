// SPDX-License-Identifier: Apache-2.0
// One head, four queries at a time: scores, probabilities as bytes, contexts, codes. Scores are counted bits where the
// codes are bits, contexts where probabilities and values are; anything else is a product of bytes, by `Products`.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_HEAD_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_HEAD_H_

#include "../memory.h"
#include "arm64_neon_bits.h"
#include "arm64_neon_bytes.h"
#include "arm64_neon_output.h"

namespace bebert {
namespace {

// The sizes of the buffers of a head.
struct Shape {
  int64_t keys, padded_keys;           // to whole planes, at least one
  int64_t head_size, padded_channels;  // to whole planes

  Shape(const AttentionConfig& config, int64_t key_count)
      : keys(key_count),
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
  ExponentialTable* exponentials;
  OutputLimits* limits;  // [padded_channels / 16]

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
        exponentials(workspace.take<ExponentialTable>(1)),
        limits(workspace.take<OutputLimits>(s.padded_channels / 16)) {}
};

template <class Products>
class Head {
 public:
  Head(const AttentionHead& head, const Shape& shape, const Buffers<Products>& buffers)
      : head_(head), shape_(shape), b_(buffers), range_(head.config.output) {
    const AttentionConfig& config = head.config;
    bit_scores_ = config.input.width == 1 && config.head_size < kTableSize;
    const bool table = bit_scores_ && config.softmax && !head.bias;
    if (table) {
      b_.exponentials->fill(config.head_size, config.input.high - config.input.low, head.score_scale);
    }
    bit_contexts_ = bit_scores_ && config.probability.width == 1 && config.probability.low == 0 &&
                    shape.padded_keys < 1 << 15 &&
                    (!table || (b_.exponentials->falling && head.probability_inverse_step >= 0));
    // Finding them costs as much as some ten queries without them.
    has_limits_ = bit_contexts_ && config.output.width == 1 && head.query.count > 16;
  }

  void run() const {
    if (shape_.keys > 0) prepare_keys();
    prepare_values();
    for (int64_t d = 0; has_limits_ && d < shape_.head_size; d += 16) {
      b_.limits[d / 16].find(OutputChannels(head_, range_, d), shape_.keys);
    }
    // Without keys nothing else writes them. Rows after the last of four are multiplied too, and then ignored.
    memset(b_.probabilities, 0, static_cast<size_t>(kRows * shape_.padded_keys));
    memset(b_.bits, 0, static_cast<size_t>(kRows * shape_.padded_keys / 8));
    for (int64_t first = 0; first < head_.query.count; first += kRows) {
      const int64_t count = smaller(kRows, head_.query.count - first);
      if (shape_.keys > 0) {
        if (bit_scores_) {
          probabilities_by_bits(first, count);
        } else {
          probabilities_by_bytes(first, count);
        }
      }
      if (bit_contexts_) {
        contexts_by_bits(first, count);
      } else {
        contexts_by_bytes(first, count);
      }
    }
  }

 private:
  uint8_t* key_planes() const { return reinterpret_cast<uint8_t*>(b_.keys); }
  uint8_t* value_planes() const { return reinterpret_cast<uint8_t*>(b_.values); }

  // Bytes of probabilities: their values less byte_offset.
  ProbabilityBytes probability_bytes() const {
    const CodeType code = head_.config.probability;
    const int32_t offset = byte_offset(code);
    const uint8_t low = static_cast<uint8_t>(code.low - offset);
    return {code, low, low, static_cast<uint8_t>(code.high - offset)};
  }

  void prepare_keys() const {
    const CodeType input = head_.config.input;
    if (bit_scores_) {
      store_key_planes(head_.key, shape_.head_size, shape_.padded_keys, key_planes());
      return;
    }
    unpack(head_.key, input, shape_.head_size, shape_.padded_channels, shape_.padded_keys, b_.rows);
    Products::store_keys(b_.rows, shape_.padded_keys, shape_.padded_channels, b_.keys);
    sum_rows(b_.rows, shape_.padded_keys, shape_.padded_channels, byte_offset(input), b_.key_term);
  }

  void prepare_values() const {
    const AttentionConfig& config = head_.config;
    if (bit_contexts_) {
      store_value_planes(head_.value, shape_.head_size, shape_.padded_keys, value_planes());
      return;
    }
    unpack(head_.value, config.input, shape_.head_size, shape_.padded_channels, shape_.padded_keys, b_.rows);
    Products::store_values(b_.rows, shape_.padded_keys, shape_.padded_channels, b_.values);
    sum_columns(b_.rows, shape_.keys, shape_.padded_channels, byte_offset(config.probability), b_.value_term);
  }

  HeadCodes queries(int64_t first, int64_t count) const {
    return {head_.query.rows + first * head_.query.row_bytes, head_.query.row_bytes, count, head_.query.channel};
  }

  template <int kVectors>
  void softmax_of_distances(uint8_t smallest, int64_t t) const {
    uint8_t* row = b_.probabilities + t * shape_.padded_keys;
    const float r =
        softmax_factor<kVectors>(*b_.exponentials, smallest, shape_.keys, head_.probability_inverse_step, row);
    if (bit_contexts_) {
      pack_row(t, softmax_limit(*b_.exponentials, smallest, r, CodeRange(head_.config.probability)));
    } else {
      store_probabilities<kVectors>(*b_.exponentials, smallest, shape_.keys, r, probability_bytes(), row);
    }
  }

  void pack_row(int64_t t, uint8_t limit) const {
    const int64_t keys = shape_.padded_keys;
    pack_below(b_.probabilities + t * keys, keys, limit, b_.bits + t * keys / 8);
  }

  void probabilities_by_bits(int64_t first, int64_t count) const {
    const CodeType input = head_.config.input;
    const int64_t step = input.high - input.low;
    uint8_t query[kRows][kTableSize / 8] = {}, smallest[kRows];
    for (int64_t t = 0; t < count; ++t) {
      const uint8_t* row = head_.query.rows + (first + t) * head_.query.row_bytes;
      for (int64_t d = 0; d < shape_.head_size; d += 64) {
        const uint64_t word = load_bits(row, head_.query.channel + d, smaller(64, shape_.head_size - d));
        memcpy(query[t] + d / 8, &word, sizeof(word));
      }
    }
    const auto measure = step == 2 ? distances<true> : distances<false>;
    measure(query[0], key_planes(), shape_.head_size, shape_.keys, shape_.padded_keys, b_.probabilities, smallest);
    for (int64_t t = 0; t < kRows; ++t) {
      const int64_t entries = shape_.head_size - smallest[t] + 1;
      if (head_.bias) {
        biased_by_bits(first + t, step, t);
      } else if (!head_.config.softmax) {
        pack_row(t, boolean_limit(step, shape_.head_size));
      } else if (entries <= 32) {
        softmax_of_distances<2>(smallest[t], t);
      } else if (entries <= 64) {
        softmax_of_distances<4>(smallest[t], t);
      } else {
        softmax_of_distances<8>(smallest[t], t);
      }
    }
  }

  // A bias makes each score a number of its own, which no table has.
  void biased_by_bits(int64_t query, int64_t step, int64_t t) const {
    const int64_t keys = shape_.padded_keys;
    uint8_t* row = b_.probabilities + t * keys;
    if (query >= head_.query.count) return;
    widen_distances(row, keys, shape_.head_size, step, b_.scores);
    biased_softmax(query, b_.scores, 0, row);
    if (bit_contexts_) pack_ones(row, keys, b_.bits + t * keys / 8);
  }

  // Scores of a query, which lack `constant` and are overwritten, to probabilities; zero for keys after the last.
  void biased_softmax(int64_t query, int32_t* scores, int32_t constant, uint8_t* row) const {
    const uint32_t sum = exponentiate_biased(scores, shape_.keys, constant, head_.score_scale, head_.bias - query);
    store_quotients(reinterpret_cast<const float*>(scores), shape_.keys, sum, head_.probability_inverse_step,
                    probability_bytes(), row);
    const int64_t end = round_up(shape_.keys, 16);
    memset(row + end, 0, static_cast<size_t>(shape_.padded_keys - end));
  }

  // The sum of the queries' bytes and the length times both offsets are the same for all keys: softmax does not see
  // them.
  void probabilities_by_bytes(int64_t first, int64_t count) const {
    const CodeType input = head_.config.input;
    const int64_t stride = shape_.padded_channels, length = round_up(shape_.head_size, 16);
    unpack(queries(first, count), input, shape_.head_size, stride, kRows, b_.query);
    Products::convert_row(b_.query, kRows * stride, b_.operands);
    const int32_t most = largest_byte(input) * largest_byte(input);
    for (int64_t j = 0; j < shape_.keys; j += kColumns) {
      Products::multiply(b_.operands, stride, length, b_.keys + j * stride, most, b_.key_term + j, b_.scores + j,
                         shape_.padded_keys);
    }
    const int32_t offset = byte_offset(input);
    for (int64_t t = 0; t < count; ++t) {
      int32_t* scores = b_.scores + t * shape_.padded_keys;
      uint8_t* row = b_.probabilities + t * shape_.padded_keys;
      if (head_.config.softmax && !head_.bias) {
        const uint32_t sum = exponentiate(scores, shape_.keys, head_.score_scale);
        store_quotients(reinterpret_cast<const float*>(scores), shape_.keys, sum, head_.probability_inverse_step,
                        probability_bytes(), row);
        continue;
      }
      const int32_t bytes = offset == 0 ? 0 : sum_bytes(b_.query + t * stride, stride);
      const int32_t constant = offset * (bytes + static_cast<int32_t>(shape_.head_size) * offset);
      if (head_.bias) {
        biased_softmax(first + t, scores, constant, row);
        continue;
      }
      boolean_bytes(scores, shape_.keys, constant, probability_bytes().one, row);
    }
  }

  void contexts_by_bits(int64_t first, int64_t count) const {
    const int64_t bytes = shape_.padded_keys / 8;
    const auto multiply = shape_.head_size <= 32 ? context_bits<2> : context_bits<4>;
    for (int64_t d = 0; d < shape_.head_size; d += kPlane) {
      int16_t contexts[kRows][kPlane];
      multiply(b_.bits, bytes, value_planes() + d * bytes, head_.config.input.low < 0, contexts);
      for (int64_t c = 0; c < smaller(kPlane, shape_.head_size - d); c += 16) {
        const OutputChannels output(head_, range_, d + c);
        for (int64_t t = 0; t < count; ++t) {
          const int16x8_t low = vld1q_s16(contexts[t] + c), high = vld1q_s16(contexts[t] + c + 8);
          if (has_limits_) {
            output.store_bits(first + t, b_.limits[(d + c) / 16].bits(low, high));
          } else {
            output.store(first + t, Contexts{{vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low),
                                              vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)}});
          }
        }
      }
    }
  }

  void contexts_by_bytes(int64_t first, int64_t count) const {
    const AttentionConfig& config = head_.config;
    const int64_t stride = shape_.padded_keys, length = round_up(shape_.keys, 16);
    Products::convert_row(b_.probabilities, kRows * stride, b_.operands);
    const int32_t most = largest_byte(config.input) * largest_byte(config.probability);
    int32_t constants[kRows] = {};
    const int32_t offset = byte_offset(config.input);
    for (int64_t t = 0; offset != 0 && t < count; ++t) {
      const int32_t bytes = sum_bytes(b_.probabilities + t * stride, length);
      constants[t] = offset * (bytes + static_cast<int32_t>(shape_.keys) * byte_offset(config.probability));
    }
    for (int64_t d = 0; d < shape_.head_size; d += kColumns) {
      int32_t contexts[kRows][kColumns];
      Products::multiply(b_.operands, stride, length, b_.values + d * stride, most, b_.value_term + d, contexts[0],
                         kColumns);
      const OutputChannels output(head_, range_, d);
      for (int64_t t = 0; t < count; ++t) {
        Contexts sums;
        for (int i = 0; i < 4; ++i) {
          sums.v[i] = vaddq_s32(vld1q_s32(contexts[t] + 4 * i), vdupq_n_s32(constants[t]));
        }
        output.store(first + t, sums);
      }
    }
  }

  const AttentionHead& head_;
  const Shape& shape_;
  const Buffers<Products>& b_;
  CodeRange range_;
  bool bit_scores_, bit_contexts_, has_limits_;
};

template <class Products>
inline void run_head(const AttentionHead& head) {
  const Shape shape(head.config, head.key.count);
  if (too_long(shape.head_size, shape.keys)) return binary_attention_scalar(head);
  Workspace workspace(head.scratch);
  const Buffers<Products> buffers(workspace, shape);
  Head<Products>(head, shape, buffers).run();
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
