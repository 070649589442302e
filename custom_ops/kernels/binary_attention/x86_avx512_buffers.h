// SPDX-License-Identifier: Apache-2.0
// The scratch memory of a head.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BUFFERS_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BUFFERS_H_

#include "../memory.h"
#include "x86_avx512_bits.h"

namespace bebert {
namespace {

struct Sizes {
  int64_t head_size, keys;
  int64_t padded_channels;  // to whole pairs of vectors of int32
  int64_t padded_keys;      // to whole vectors of bytes
  int64_t score_tiles;      // tiles whose scores stay in the nearest cache

  Sizes(const AttentionConfig& config, int64_t key_count)
      : head_size(config.head_size),
        keys(key_count),
        padded_channels(round_up(config.head_size, 32)),
        padded_keys(round_up(key_count, 64)),
        score_tiles(padded_keys <= 128   ? kTiles
                    : padded_keys <= 256 ? kTiles / 2
                                         : 1) {}
};

struct Buffers {
  uint8_t* rows;           // [16, padded_channels] and kUnpackExcess: scratch
  uint8_t* keys;           // byte planes, or transposed rows
  uint8_t* values;         // bit planes, or transposed rows
  uint8_t* query;          // [kTiles, kRows, padded_channels] and kUnpackExcess
  int32_t* key_term;       // [padded_keys]
  int32_t* value_term;     // [padded_channels]
  int32_t* scores;         // [score_tiles, kRows, padded_keys]
  uint8_t* probabilities;  // [kTiles, kRows, padded_keys]; before that, distances
  int32_t* contexts;       // [kRows, padded_channels]
  uint64_t* bits;          // [kTiles, padded_keys / 64, kRows]
  ExponentialTable* exponentials;
  OutputLimits* limits;  // [kTableSize / 16]

  Buffers(Workspace& workspace, const Sizes& s)
      : rows(workspace.take<uint8_t>(16 * s.padded_channels + kUnpackExcess)),
        keys(workspace.take<uint8_t>(s.padded_keys * s.padded_channels)),
        values(workspace.take<uint8_t>(s.padded_keys * s.padded_channels)),
        query(workspace.take<uint8_t>(kTiles * kRows * s.padded_channels + kUnpackExcess)),
        key_term(workspace.take<int32_t>(s.padded_keys)),
        value_term(workspace.take<int32_t>(s.padded_channels)),
        scores(workspace.take<int32_t>(s.score_tiles * kRows * s.padded_keys)),
        probabilities(workspace.take<uint8_t>(kTiles * kRows * s.padded_keys)),
        contexts(workspace.take<int32_t>(kRows * s.padded_channels)),
        bits(workspace.take<uint64_t>(kTiles * kRows * s.padded_keys / 64)),
        exponentials(workspace.take<ExponentialTable>(1)),
        limits(workspace.take<OutputLimits>(kTableSize / 16)) {}
};

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BUFFERS_H_
