// SPDX-License-Identifier: Apache-2.0
// bebert::PackedBinaryEmbedding: docs/ops.md.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_EMBEDDING_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_EMBEDDING_H_

#include <stdint.h>

#include "../codes.h"
#include "../cpu.h"
#include "../host.h"

namespace bebert {

// Some tokens of one member. Every id is below the number of rows of `weight`.
struct PackedBinaryEmbeddingRows {
  const int64_t* ids;     // [tokens]
  const uint8_t* weight;  // [rows, packed_row_bytes]
  const float* scale;     // [rows]
  int64_t tokens, channels;
  float* y;  // [tokens, channels]
};

#define KERNEL(isa) void packed_binary_embedding_##isa(const PackedBinaryEmbeddingRows& rows);
#include "kernels.inc"
#undef KERNEL

struct PackedBinaryEmbeddingArguments {
  const int64_t* ids;     // [tokens]
  const uint8_t* weight;  // [members, rows, packed_row_bytes]
  const float* scale;     // [members, rows]
  float* y;               // [members, tokens, channels]
  int64_t members, rows, tokens, channels;
};

void packed_binary_embedding(Isa isa, const PackedBinaryEmbeddingArguments& arguments, const Host& host);

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_EMBEDDING_H_
