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

struct Job {
  const PackedBinaryEmbeddingArguments& a;
  TokenBlocks blocks;
  Kernel kernel;
};

void run_task(void* argument, size_t task) {
  const Job& job = *static_cast<const Job*>(argument);
  const PackedBinaryEmbeddingArguments& a = job.a;
  const int64_t member = job.blocks.member(task);
  const int64_t begin = job.blocks.begin(task);
  PackedBinaryEmbeddingRows rows;
  rows.ids = a.ids + begin;
  rows.weight = a.weight + member * a.rows * packed_row_bytes(a.channels);
  rows.scale = a.scale + member * a.rows;
  rows.tokens = job.blocks.count(task);
  rows.channels = a.channels;
  rows.y = a.y + (member * a.tokens + begin) * a.channels;
  job.kernel(rows);
}

}  // namespace

void packed_binary_embedding(Isa isa, const PackedBinaryEmbeddingArguments& arguments, const Host& host) {
  Job job = {arguments, TokenBlocks(arguments.tokens, arguments.channels), choose(isa)};
  host.parallel_for(host.context, run_task, job.blocks.tasks(arguments.members), &job);
}

}  // namespace bebert
