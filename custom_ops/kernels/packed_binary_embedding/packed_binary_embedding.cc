// SPDX-License-Identifier: Apache-2.0
#include "packed_binary_embedding.h"

#include "../dispatch.h"

namespace bebert {

namespace {

using Kernel = void (*)(const PackedBinaryEmbeddingRows&);

Kernel choose(Isa live) {
#define KERNEL(isa) \
  if (may_run(live, Isa::isa)) return packed_binary_embedding_##isa;
#include "kernels.inc"
#undef KERNEL
  return nullptr;
}

PackedBinaryEmbeddingRows rows_of(const PackedBinaryEmbeddingArguments& a, int64_t member, int64_t begin,
                                  int64_t count) {
  PackedBinaryEmbeddingRows rows;
  rows.ids = a.ids + begin;
  rows.weight = a.weight + member * a.rows * packed_row_bytes(a.channels);
  rows.scale = a.scale + member * a.rows;
  rows.tokens = count;
  rows.channels = a.channels;
  rows.y = a.y + (member * a.tokens + begin) * a.channels;
  return rows;
}

}  // namespace

void packed_binary_embedding(Isa isa, const PackedBinaryEmbeddingArguments& arguments, const Host& host) {
  RowsJob<PackedBinaryEmbeddingArguments, PackedBinaryEmbeddingRows>{choose(isa), rows_of, arguments}.run(host);
}

}  // namespace bebert
