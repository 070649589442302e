// SPDX-License-Identifier: Apache-2.0
// For four queries at a time: scores, probabilities, contexts, codes. Scores are counts where the codes are bits,
// contexts where probabilities and values are; products of bytes where codes have up to four bits, else of int16.
#include "../memory.h"
#include "binary_attention.h"
#include "x86_avx2_bits.h"
#include "x86_avx2_bytes.h"
#include "x86_avx2_words.h"

namespace bebert {

namespace {

// The way a head is computed, and the sizes of its buffers.
struct Shape {
  bool bit_scores, bit_contexts, bytes;
  int64_t keys, padded_keys, head_size, padded_channels;  // to whole blocks

  Shape(const AttentionConfig& config, int64_t key_count)
      : bit_scores(config.input.width == 1 && config.head_size < kTableSize),
        bit_contexts(config.input.width == 1 && config.probability.width == 1 && config.probability.low == 0),
        bytes(four_bits(config.input) && (config.probability.width == 1 || four_bits(config.probability))),
        keys(key_count),
        padded_keys(round_up(key_count, kBlock)),
        head_size(config.head_size),
        padded_channels(round_up(config.head_size, kBlock)) {}

  int64_t key_index_bytes() const { return bit_scores ? padded_keys / kBlock * block_index_bytes(head_size) : 0; }
  int64_t value_index_bytes() const { return bit_contexts ? padded_channels / kBlock * block_index_bytes(keys) : 0; }
  int64_t words() const { return padded_keys * padded_channels; }
};

bool too_long(int64_t head_size, int64_t keys) { return head_size > kMaximumLength || keys > kMaximumLength; }

struct Buffers {
  uint8_t* key_indices;
  uint8_t* value_indices;
  int16_t* rows;           // [padded_keys, padded_channels]: scratch
  int16_t* key_words;      // transposed rows
  int16_t* value_words;    // pairs of rows
  int16_t* query_words;    // [kRows, padded_channels]
  int16_t* probabilities;  // [kRows, padded_keys]
  int32_t* scores;         // [kRows, padded_keys]
  int32_t* contexts;       // [kRows, padded_channels]
  int32_t* key_terms;      // [padded_keys]
  int32_t* value_terms;    // [padded_channels]
  uint8_t* counts;         // [kRows, padded_keys]: counts, then probabilities as bytes
  uint8_t* bits;           // two rows of bits
  uint8_t* tables;         // of a pair of queries or probabilities
  ExponentialTable* exponentials;

  Buffers(Workspace& workspace, const Shape& s)
      : key_indices(workspace.take<uint8_t>(s.key_index_bytes())),
        value_indices(workspace.take<uint8_t>(s.value_index_bytes())),
        rows(workspace.take<int16_t>(s.bit_scores && s.bit_contexts ? 0 : s.words())),
        key_words(workspace.take<int16_t>(s.bit_scores ? 0 : s.words())),
        value_words(workspace.take<int16_t>(s.bit_contexts ? 0 : s.words())),
        query_words(workspace.take<int16_t>(kRows * s.padded_channels)),
        probabilities(workspace.take<int16_t>(kRows * s.padded_keys)),
        scores(workspace.take<int32_t>(kRows * s.padded_keys)),
        contexts(workspace.take<int32_t>(kRows * s.padded_channels)),
        key_terms(workspace.take<int32_t>(s.padded_keys)),
        value_terms(workspace.take<int32_t>(s.padded_channels)),
        counts(workspace.take<uint8_t>(kRows * s.padded_keys)),
        bits(workspace.take<uint8_t>(
            2 * packed_row_bytes(s.padded_keys > s.padded_channels ? s.padded_keys : s.padded_channels))),
        tables(workspace.take<uint8_t>(kTableSize +
                                       pair_table_bytes(s.padded_keys > kTableSize ? s.padded_keys : kTableSize))),
        exponentials(workspace.take<ExponentialTable>(1)) {}
};

struct Head {
  const AttentionHead& head;
  const Shape& shape;
  const Buffers& b;

  void unpack_rows(const HeadCodes& codes, int64_t first, int64_t count, int64_t rows, int16_t* out) const {
    for (int64_t i = 0; i < rows; ++i) {
      const bool exists = i < count;
      unpack_row(codes.rows + (exists ? first + i : 0) * codes.row_bytes, codes.channel, head.config.input,
                 exists ? shape.head_size : 0, shape.padded_channels, out + i * shape.padded_channels);
    }
  }

  // Bytes are codes plus `add`.
  uint8_t* unpack_rows(const HeadCodes& codes, int64_t first, int64_t count, int64_t rows, int32_t add,
                       int16_t* out) const {
    uint8_t* bytes = reinterpret_cast<uint8_t*>(out);
    for (int64_t i = 0; i < rows; ++i) {
      const bool exists = i < count;
      unpack_bytes(codes.rows + (exists ? first + i : 0) * codes.row_bytes + codes.channel,
                   exists ? shape.head_size : 0, shape.padded_channels, add, bytes + i * shape.padded_channels);
    }
    return bytes;
  }

  void prepare_keys() const {
    const CodeType input = head.config.input;
    const int64_t stride = shape.padded_channels;
    if (shape.bit_scores) {
      index_keys(head.key, shape.head_size, shape.padded_keys, b.key_indices);
      if (!head.bias) b.exponentials->fill(input.high - input.low, head.score_scale);
    } else if (shape.bytes) {
      transpose_keys(unpack_rows(head.key, 0, shape.keys, shape.padded_keys, input.low, b.rows), shape.padded_keys,
                     stride / 4, b.key_words);
      for (int64_t j = 0; j < shape.padded_keys; j += 16) {
        sum_columns(key_bytes() + j * stride, stride, 64, input.low, b.key_terms + j);
      }
    } else {
      unpack_rows(head.key, 0, shape.keys, shape.padded_keys, b.rows);
      transpose_keys(b.rows, shape.padded_keys, stride / 2, b.key_words);
    }
  }

  void prepare_values() const {
    const int64_t stride = shape.padded_channels;
    if (shape.bit_contexts) {
      index_values(head.value, shape.head_size, b.value_indices);
    } else if (shape.bytes) {
      const uint8_t* rows = unpack_rows(head.value, 0, shape.keys, shape.padded_keys, head.config.input.low, b.rows);
      interleave_values(rows, shape.padded_keys, stride, reinterpret_cast<uint8_t*>(b.value_words));
      for (int64_t d = 0; d < stride; d += 16) {
        sum_columns(value_bytes() + d * 4, shape.padded_keys, stride * 4, head.config.probability.low,
                    b.value_terms + d);
      }
    } else {
      unpack_rows(head.value, 0, shape.keys, shape.padded_keys, b.rows);
      pair_values(b.rows, shape.padded_keys, stride, b.value_words);
    }
  }

  const uint8_t* key_bytes() const { return reinterpret_cast<const uint8_t*>(b.key_words); }
  const uint8_t* value_bytes() const { return reinterpret_cast<const uint8_t*>(b.value_words); }

  // Probabilities of two queries as bytes in `counts`.
  void probabilities_by_bits(int64_t first, int64_t count, uint8_t* counts) const {
    const bool sign = head.config.input.low < 0;
    alignas(8) uint8_t query[2][kTableSize / 8] = {};
    for (int64_t t = 0; t < count; ++t) {
      const uint8_t* row = head.query.rows + (first + t) * head.query.row_bytes;
      for (int64_t d = 0; d < shape.head_size; d += 64) {
        const uint64_t word = load_bits(row, head.query.channel + d, smaller(64, shape.head_size - d));
        memcpy(query[t] + d / 8, &word, sizeof(word));
      }
    }
    const auto build = sign ? build_pair_tables<true> : build_pair_tables<false>;
    build(query[0], query[1], shape.head_size, b.tables);
    count_keys(b.tables, b.key_indices, shape.head_size, shape.padded_keys, counts);
    // Channels after the last match.
    const int64_t padding = steps_of_row(shape.head_size) * kStepChannels - shape.head_size;
    for (int64_t t = 0; t < count; ++t, counts += shape.padded_keys) {
      if (head.bias) {
        const int64_t least = sign ? -2 * padding - shape.head_size : 0;
        widen_counts(counts, shape.padded_keys, sign ? 2 : 1, static_cast<int32_t>(least), b.scores);
        softmax<ByteProbabilities>(first + t, b.scores, counts);
        memset(counts + shape.keys, 0, static_cast<size_t>(shape.padded_keys - shape.keys));
        continue;
      }
      if (!head.config.softmax) {
        // dot > 0
        to_booleans(sign ? padding + shape.head_size / 2 : 0, shape.keys, shape.padded_keys, counts);
        continue;
      }
      const int64_t most = to_distances(shape.keys, shape.padded_keys, counts);
      const int64_t sum = b.exponentials->sum(counts, shape.padded_keys, most);
      const float r = head.probability_inverse_step / static_cast<float>(sum);
      alignas(32) uint8_t levels[kTableSize];
      fill_probabilities(*b.exponentials, most, r, head.config.probability, levels);
      look_up_levels(levels, most, shape.padded_keys, counts);
    }
  }

  // Scores of a query, overwritten, to probabilities.
  template <class Probabilities>
  void softmax(int64_t query, int32_t* scores, typename Probabilities::Type* row) const {
    const int32_t total = head.bias ? exponentiate_biased(scores, shape.keys, head.score_scale, head.bias - query)
                                    : exponentiate(scores, shape.keys, head.score_scale);
    to_probabilities<Probabilities>(scores, shape.keys, total, head.probability_inverse_step, head.config.probability,
                                    row);
  }

  template <class Probabilities>
  void to_probability_rows(int64_t first, int64_t count, typename Probabilities::Type* rows) const {
    const AttentionConfig& config = head.config;
    for (int64_t t = 0; t < count; ++t, rows += shape.padded_keys) {
      int32_t* scores = b.scores + t * shape.padded_keys;
      if (config.softmax) {
        softmax<Probabilities>(first + t, scores, rows);
      } else {
        booleans<Probabilities>(scores, shape.keys, rows);
      }
    }
  }

  // dot = sum of level * value + low * (sum of values).
  void probabilities_by_bytes(int64_t first, int64_t count) const {
    const int64_t stride = shape.padded_channels;
    const uint8_t* query = unpack_rows(head.query, first, count, kRows, 0, b.query_words);
    for (int64_t j = 0; j < shape.keys; j += 16) {
      multiply_bytes(query, stride, round_up(shape.head_size, 4), key_bytes() + j * stride, 64, b.key_terms + j,
                     b.scores + j, shape.padded_keys);
    }
    to_probability_rows<ByteProbabilities>(first, count, b.counts);
  }

  void probabilities_by_words(int64_t first, int64_t count) const {
    const int64_t stride = shape.padded_channels;
    unpack_rows(head.query, first, count, kRows, b.query_words);
    for (int64_t j = 0; j < shape.keys; j += 16) {
      multiply_words(b.query_words, stride, round_up(shape.head_size, 2), b.key_words + j * stride, 32, b.scores + j,
                     shape.padded_keys);
    }
    to_probability_rows<WordProbabilities>(first, count, b.probabilities);
  }

  // Between the two ways: level bytes to values and back, for codes of width 1 and another type of probability, or
  // longer heads.
  void widen_probabilities(int64_t count) const {
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t j = 0; j < shape.padded_keys; ++j) {
        const int64_t at = t * shape.padded_keys + j;
        const int32_t value = j < shape.keys ? head.config.probability.low + b.counts[at] : 0;
        b.probabilities[at] = static_cast<int16_t>(value);
      }
    }
  }

  void narrow_probabilities(int64_t count) const {
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t j = 0; j < shape.padded_keys; ++j) {
        const int64_t at = t * shape.padded_keys + j;
        b.counts[at] = static_cast<uint8_t>(j < shape.keys ? b.probabilities[at] : 0);
      }
    }
  }

  void contexts(int64_t count) const {
    if (shape.bytes) {
      for (int64_t d = 0; d < shape.head_size; d += 16) {
        multiply_bytes(b.counts, shape.padded_keys, round_up(shape.keys, 4), value_bytes() + d * 4,
                       shape.padded_channels * 4, b.value_terms + d, b.contexts + d, shape.padded_channels);
      }
      return;
    }
    if (!shape.bit_contexts) {
      if (shape.bit_scores) widen_probabilities(count);
      for (int64_t d = 0; d < shape.head_size; d += 16) {
        multiply_words(b.probabilities, shape.padded_keys, round_up(shape.keys, 2), b.value_words + d * 2,
                       shape.padded_channels * 2, b.contexts + d, shape.padded_channels);
      }
      return;
    }
    if (!shape.bit_scores) narrow_probabilities(count);
    for (int64_t t = 0; t < count; t += 2) {
      count_values(b.counts + t * shape.padded_keys, shape.keys, shape.padded_keys, b.value_indices, head.config.input,
                   shape.padded_channels, b.bits, b.tables, b.contexts + t * shape.padded_channels);
    }
  }

  void run() const {
    prepare_keys();
    prepare_values();
    // Rows after the last of four are multiplied too, and then ignored.
    memset(b.probabilities, 0, static_cast<size_t>(kRows * shape.padded_keys) * sizeof(int16_t));
    memset(b.counts, 0, static_cast<size_t>(kRows * shape.padded_keys));
    for (int64_t first = 0; first < head.query.count; first += kRows) {
      const int64_t count = smaller(kRows, head.query.count - first);
      if (shape.keys > 0 && shape.bit_scores) {
        for (int64_t t = 0; t < count; t += 2) {
          probabilities_by_bits(first + t, smaller(2, count - t), b.counts + t * shape.padded_keys);
        }
      } else if (shape.keys > 0 && shape.bytes) {
        probabilities_by_bytes(first, count);
      } else if (shape.keys > 0) {
        probabilities_by_words(first, count);
      }
      contexts(count);
      for (int64_t t = 0; t < count; ++t) {
        store_codes(head, first + t, b.contexts + t * shape.padded_channels, b.bits);
      }
    }
  }
};

}  // namespace

void binary_attention_x86_avx2(const AttentionHead& head) {
  const Shape shape(head.config, head.key.count);
  if (too_long(shape.head_size, shape.keys)) return binary_attention_scalar(head);
  Workspace workspace(head.scratch);
  const Buffers buffers(workspace, shape);
  Head{head, shape, buffers}.run();
}

size_t binary_attention_scratch_x86_avx2(const AttentionConfig& config, int64_t queries, int64_t keys) {
  if (too_long(config.head_size, keys)) return binary_attention_scratch_scalar(config, queries, keys);
  Workspace workspace(nullptr);
  Buffers(workspace, Shape(config, keys));
  return workspace.used();
}

}  // namespace bebert
