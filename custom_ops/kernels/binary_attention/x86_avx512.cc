// SPDX-License-Identifier: Apache-2.0
// For some queries at a time: scores, probabilities, contexts, codes. Scores are counted bits where the codes are
// bits, contexts where the probabilities are too; anything else is a product of bytes.
#include "x86_avx512_bits.h"
#include "x86_avx512_buffers.h"
#include "x86_avx512_bytes.h"
#include "x86_avx512_softmax.h"

namespace bebert {

namespace {

// Sums of products could exceed int32.
bool too_long(int64_t head_size, int64_t keys) { return head_size > kMaximumChannels || keys > kMaximumKeys; }

class Head {
 public:
  Head(const AttentionHead& head, const Buffers& buffers)
      : head_(head), sizes_(head.config, head.key.count), b_(buffers), range_(head.config.output) {
    const AttentionConfig& config = head.config;
    bit_scores_ = config.input.width == 1 && config.head_size < kTableSize;
    const bool table = bit_scores_ && config.softmax && !head.bias;
    if (table) b_.exponentials->fill(config.input.high - config.input.low, head.score_scale);
    bit_contexts_ = bit_scores_ && config.probability.width == 1 && config.probability.low == 0 &&
                    (!table || b_.exponentials->falling);
    // Finding them costs as much as some thirty queries without them.
    has_limits_ = bit_contexts_ && config.output.width == 1 && head.query.count > 32;
  }

  void run() const {
    if (sizes_.keys > 0) prepare_keys();
    prepare_values();
    for (int64_t d = 0; has_limits_ && d < sizes_.head_size; d += 16) {
      b_.limits[d / 16].find(OutputChannels(head_, range_, d), sizes_.keys, head_.config.input.low < 0);
    }
    const int64_t most_tiles = bit_scores_ ? kTiles : sizes_.score_tiles;
    for (int64_t first = 0; first < head_.query.count; first += most_tiles * kRows) {
      const int64_t tiles = smaller(most_tiles, (head_.query.count - first + kRows - 1) / kRows);
      if (bit_contexts_) {
        contexts_by_bits(first, tiles);
      } else {
        contexts_by_bytes(first, tiles);
      }
    }
  }

 private:
  void prepare_keys() const {
    const CodeType input = head_.config.input;
    const int64_t stride = sizes_.padded_channels;
    if (bit_scores_) return store_byte_planes(head_.key, sizes_.head_size, b_.keys);
    for (int64_t j = 0; j < round_up(sizes_.keys, 32); j += 16) {
      uint8_t* keys = b_.keys + j * stride;
      transpose_keys(signed_rows(head_.key, input, j, sizes_.head_size, stride, b_.rows), stride, keys);
      sum_columns(keys, stride, 64, input.low, b_.key_term + j);
    }
    // Keys after the last are not the largest.
    for (int64_t j = sizes_.keys; j < round_up(sizes_.keys, 32); ++j) b_.key_term[j] = INT32_MIN / 2;
  }

  void prepare_values() const {
    const AttentionConfig& config = head_.config;
    const int64_t stride = sizes_.padded_channels;
    if (bit_contexts_) {
      return store_bit_planes(head_.value, sizes_.head_size, stride, reinterpret_cast<uint32_t*>(b_.values));
    }
    const int64_t length = round_up(sizes_.keys, 4);
    for (int64_t j = 0; j < length; j += 16) {
      transpose_values(signed_rows(head_.value, config.input, j, sizes_.head_size, stride, b_.rows), stride,
                       b_.values + j * stride);
    }
    for (int64_t d = 0; d < stride; d += 16) {
      sum_columns(b_.values + d * 4, length, stride * 4, config.probability.low, b_.value_term + d);
    }
  }

  static HeadCodes rows_from(const HeadCodes& codes, int64_t first) {
    return {codes.rows + first * codes.row_bytes, codes.row_bytes, codes.count - first, codes.channel};
  }

  // Distances of the queries from `first` on; see distances().
  template <class Use>
  void measure(int64_t first, Use use) const {
    uint8_t queries[kRows][kTableSize / 8] = {};
    for (int64_t t = 0; t < smaller(kRows, head_.query.count - first); ++t) {
      const uint8_t* row = head_.query.rows + (first + t) * head_.query.row_bytes;
      for (int64_t d = 0; d < sizes_.head_size; d += 64) {
        const uint64_t word = load_bits(row, head_.query.channel + d, smaller(64, sizes_.head_size - d));
        memcpy(queries[t] + d / 8, &word, sizeof(word));
      }
    }
    if (head_.config.input.low < 0) {
      distances<true>(queries, b_.keys, sizes_.head_size, sizes_.keys, use);
    } else {
      distances<false>(queries, b_.keys, sizes_.head_size, sizes_.keys, use);
    }
  }

  uint8_t* probabilities(int64_t tile) const { return b_.probabilities + tile * kRows * sizes_.padded_keys; }

  // What softmax needs of a tile.
  struct Tile {
    uint8_t smallest[kRows];
    float r[kRows];
  };

  // Leaves distances in `probabilities`. keys > 0.
  void softmax_by_bits(int64_t first, int64_t tiles, Tile* tile) const {
    const int64_t stride = sizes_.padded_keys;
    for (int64_t i = 0; i < tiles; ++i) {
      const __m512i all = _mm512_set1_epi8(-1);
      __m512i least[kRows] = {all, all, all, all, all, all, all, all};
      uint8_t* rows = probabilities(i);
      measure(first + i * kRows, [rows, stride, all, &least](int64_t j, int t, __mmask64 lanes, __m512i distance) {
        const __m512i known = _mm512_mask_mov_epi8(all, lanes, distance);
        _mm512_store_si512(rows + t * stride + j, known);
        least[t] = _mm512_min_epu8(least[t], known);
      });
      smallest_bytes(least, tile[i].smallest);
    }
    for (int64_t i = 0; i < tiles; ++i) {
      softmax_bits(*b_.exponentials, probabilities(i), stride, sizes_.keys, tile[i].smallest,
                   head_.probability_inverse_step, tile[i].r);
    }
  }

  void contexts_by_bits(int64_t first, int64_t tiles) const {
    const AttentionConfig& config = head_.config;
    const int64_t step = config.input.high - config.input.low;
    ProbabilityBits bits[kTiles] = {};
    for (int64_t i = 0; i < tiles; ++i) bits[i].words = b_.bits + i * sizes_.padded_keys / 64 * kRows;
    if (!config.softmax) {
      // dot > 0: distance < head_size / step.
      const __m512i limit = _mm512_set1_epi8(static_cast<char>((sizes_.head_size + step - 1) / step));
      for (int64_t i = 0; i < tiles; ++i) {
        measure(first + i * kRows, [&bits, i, limit](int64_t j, int t, __mmask64 lanes, __m512i distance) {
          bits[i].store(j, t, _mm512_mask_cmplt_epu8_mask(lanes, distance, limit));
        });
      }
    } else if (head_.bias) {
      biased_by_bits(first, tiles);
      for (int64_t i = 0; i < tiles; ++i) bits[i].pack(probabilities(i), sizes_.keys, sizes_.padded_keys);
    } else if (sizes_.keys > 0) {
      Tile tile[kTiles];
      softmax_by_bits(first, tiles, tile);
      for (int64_t i = 0; i < tiles; ++i) {
        store_bits(*b_.exponentials, tile[i].smallest, tile[i].r, config.probability, sizes_.keys, sizes_.padded_keys,
                   probabilities(i), bits[i]);
      }
    }
    for (int64_t d = 0; d < sizes_.head_size; d += 16) {
      const OutputChannels output(head_, range_, d);
      if (has_limits_) {
        const OutputLimits& limits = b_.limits[d / 16];
        store_contexts(first, tiles, d, bits, [&output, &limits](int64_t query, __m512i sum, bool odd) {
          output.store_bits(query, limits.bits(sum, odd));
        });
      } else {
        const bool sign = config.input.low < 0;
        store_contexts(first, tiles, d, bits, [&output, sign](int64_t query, __m512i sum, bool odd) {
          output.store(query, context_of(sum, sign, odd));
        });
      }
    }
  }

  // Calls store(query, sum, odd) for the queries of all tiles; see context_bits.
  template <class Store>
  void store_contexts(int64_t first, int64_t tiles, int64_t d, const ProbabilityBits* bits, Store store) const {
    const uint32_t* planes = reinterpret_cast<const uint32_t*>(b_.values) + d;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t query = first + i * kRows, count = head_.query.count - query;
      context_bits(bits[i], planes, sizes_.padded_channels, sizes_.keys, head_.config.input.low < 0,
                   [&store, query, count](int t, __m512i sum, bool odd) {
                     if (t < count) store(query + t, sum, odd);
                   });
    }
  }

  // dot = sum of level * signed + low * (sum of signed) + offset * (sum of level) + head_size * low * offset. The last
  // two are the same for all keys of a query: softmax does not see them.
  void probabilities_by_bytes(int64_t first, int64_t tiles) const {
    const AttentionConfig& config = head_.config;
    const int64_t channels = sizes_.padded_channels, keys = sizes_.padded_keys;
    unpack(rows_from(head_.query, first), config.input, level_bytes(config.input), sizes_.head_size, channels,
           tiles * kRows, b_.query);
    ScoreRows rows[kTiles];
    for (int64_t i = 0; i < tiles; ++i) {
      int32_t* scores = b_.scores + i * kRows * keys;
      const __m512i least = _mm512_set1_epi32(INT32_MIN);
      __m512i largest[kRows] = {least, least, least, least, least, least, least, least};
      const ByteProduct product = {b_.query + i * kRows * channels, channels,   channels, b_.keys, 64, 16 * channels,
                                   round_up(sizes_.keys, 32) / 16,  b_.key_term};
      product.run([scores, keys, &largest](int row, int64_t block, __m512i sums) {
        _mm512_store_si512(scores + row * keys + 16 * block, sums);
        largest[row] = _mm512_max_epi32(largest[row], sums);
      });
      rows[i].scores = scores;
      rows[i].keys = sizes_.keys;
      rows[i].stride = keys;
      rows[i].reduce_largest(largest);
    }
    if (!config.softmax) {
      for (int64_t t = 0; t < tiles * kRows; ++t) {
        boolean_bytes(b_.scores + t * keys, sizes_.keys, constant_of_scores(t), b_.probabilities + t * keys);
      }
      return;
    }
    const ScoreExponential exponential(head_.score_scale);
    for (int64_t i = 0; i < tiles; ++i) {
      if (!head_.bias) {
        rows[i].exponentiate(exponential, head_.probability_inverse_step);
        continue;
      }
      int32_t constants[kRows];
      for (int t = 0; t < kRows; ++t) constants[t] = constant_of_scores(i * kRows + t);
      exponentiate_biased(first + i * kRows, constants, rows[i]);
    }
    for (int64_t i = 0; i < tiles; ++i) {
      rows[i].to_probabilities(config.probability, head_.probability_inverse_step, probabilities(i));
    }
  }

  // What the scores of query t of b_.query lack: the part that is the same for all keys.
  int32_t constant_of_scores(int64_t t) const {
    const int32_t low = head_.config.input.low, offset = signed_offset(head_.config.input);
    if (offset == 0) return 0;
    const int32_t levels = sum_bytes(b_.query + t * sizes_.padded_channels, sizes_.padded_channels);
    return offset * (levels + static_cast<int32_t>(sizes_.head_size) * low);
  }

  void exponentiate_biased(int64_t first, const int32_t (&constants)[kRows], ScoreRows& rows) const {
    const float* biases[kRows];
    for (int64_t t = 0; t < kRows; ++t) biases[t] = head_.bias - smaller(first + t, head_.query.count - 1);
    rows.exponentiate_biased(constants, biases, head_.score_scale, head_.probability_inverse_step);
  }

  // A bias makes each score a number of its own, which no table has. Tile after tile: one has room in `scores`.
  void biased_by_bits(int64_t first, int64_t tiles) const {
    const int64_t keys = sizes_.padded_keys;
    const __m512i most = _mm512_set1_epi32(static_cast<int32_t>(sizes_.head_size));
    const __m512i step = _mm512_set1_epi32(head_.config.input.high - head_.config.input.low);
    constexpr int32_t kNone[kRows] = {};
    for (int64_t i = 0; i < tiles && sizes_.keys > 0; ++i) {
      ScoreRows rows;
      rows.scores = b_.scores;
      rows.keys = sizes_.keys;
      rows.stride = keys;
      measure(first + i * kRows, [this, keys, most, step](int64_t j, int t, __mmask64, __m512i distances) {
        alignas(64) uint8_t bytes[64];
        _mm512_store_si512(bytes, distances);
        for (int64_t v = 0; v < 64; v += 16) {
          const __m512i distance = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes + v)));
          const __m512i dot = _mm512_sub_epi32(most, _mm512_mullo_epi32(distance, step));
          _mm512_store_si512(b_.scores + t * keys + j + v, dot);
        }
      });
      exponentiate_biased(first + i * kRows, kNone, rows);
      rows.to_probabilities(head_.config.probability, head_.probability_inverse_step, probabilities(i));
    }
  }

  // ctx = sum of level * signed + low * (sum of signed) + offset * (sum of level + keys * low).
  void contexts_by_bytes(int64_t first, int64_t tiles) const {
    const CodeType probability = head_.config.probability;
    const int64_t channels = sizes_.padded_channels, keys = sizes_.padded_keys;
    if (bit_scores_ && head_.bias) {
      biased_by_bits(first, tiles);
    } else if (sizes_.keys > 0 && bit_scores_) {
      Tile tile[kTiles];
      softmax_by_bits(first, tiles, tile);
      for (int64_t i = 0; i < tiles; ++i) {
        store_levels(*b_.exponentials, tile[i].smallest, tile[i].r, probability, sizes_.keys, keys, probabilities(i));
      }
    } else if (sizes_.keys > 0) {
      probabilities_by_bytes(first, tiles);
    }
    for (int64_t i = 0; i < tiles; ++i) {
      const int32_t offset = signed_offset(head_.config.input);
      int32_t constants[kRows] = {};
      for (int t = 0; t < kRows && offset != 0; ++t) {
        const int32_t levels = sum_bytes(probabilities(i) + t * keys, sizes_.keys);
        constants[t] = offset * (levels + static_cast<int32_t>(sizes_.keys) * probability.low);
      }
      const int64_t query = first + i * kRows, count = head_.query.count - query;
      const ByteProduct product = {
          probabilities(i), keys, round_up(sizes_.keys, 4), b_.values, channels * 4, 64, channels / 16, b_.value_term};
      int32_t* contexts = b_.contexts;
      product.run([contexts, channels](int row, int64_t block, __m512i context) {
        _mm512_store_si512(contexts + row * channels + 16 * block, context);
      });
      for (int64_t t = 0; t < kRows && offset != 0; ++t) {
        const __m512i constant = _mm512_set1_epi32(constants[t]);
        for (int64_t d = 0; d < channels; d += 16) {
          int32_t* context = contexts + t * channels + d;
          _mm512_store_si512(context, _mm512_add_epi32(_mm512_load_si512(context), constant));
        }
      }
      store_contexts(query, smaller(kRows, count));
    }
  }

  void store_contexts(int64_t query, int64_t count) const {
    const int64_t channels = sizes_.padded_channels;
    const int32_t* contexts = b_.contexts;
    if (head_.config.output.width == 8 && sizes_.head_size % 64 == 0) {
      const __m512 scale = _mm512_set1_ps(head_.context_scale);
      uint8_t* codes = head_.codes + query * head_.codes_row_bytes + head_.codes_channel;
      for (int64_t t = 0; t < count; ++t) {
        quantize_rows<1>(head_.quantizer, range_, sizes_.head_size, codes + t * head_.codes_row_bytes, 0,
                         [=](int64_t d, __mmask16, __m512(&y)[1]) {
                           const __m512i context = _mm512_load_si512(contexts + t * channels + d);
                           y[0] = _mm512_mul_ps(_mm512_cvtepi32_ps(context), scale);
                         });
      }
      return;
    }
    for (int64_t d = 0; d < sizes_.head_size; d += 16) {
      const OutputChannels output(head_, range_, d);
      for (int64_t t = 0; t < count; ++t) {
        output.store(query + t, _mm512_load_si512(contexts + t * channels + d));
      }
    }
  }

  const AttentionHead& head_;
  Sizes sizes_;
  const Buffers& b_;
  CodeRange range_;
  bool bit_scores_, bit_contexts_, has_limits_;
};

}  // namespace

void binary_attention_x86_avx512(const AttentionHead& head) {
  if (too_long(head.config.head_size, head.key.count)) return binary_attention_scalar(head);
  Workspace workspace(head.scratch);
  const Buffers buffers(workspace, Sizes(head.config, head.key.count));
  Head(head, buffers).run();
}

size_t binary_attention_scratch_x86_avx512(const AttentionConfig& config, int64_t queries, int64_t keys) {
  if (too_long(config.head_size, keys)) return binary_attention_scratch_scalar(config, queries, keys);
  Workspace workspace(nullptr);
  Buffers(workspace, Sizes(config, keys));
  return workspace.used();
}

}  // namespace bebert
