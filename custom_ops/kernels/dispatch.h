// SPDX-License-Identifier: Apache-2.0
// Choice of a kernel from the list of an op (its kernels.inc), and the tasks of ops that work row by row.
#ifndef BEBERT_EDGE_KERNELS_DISPATCH_H_
#define BEBERT_EDGE_KERNELS_DISPATCH_H_

#include <stddef.h>
#include <stdint.h>

#include "cpu.h"
#include "host.h"

namespace bebert {

// Whether a kernel of path `isa` may run where `live` is the live path: a path includes those below it, and a library
// has kernels of one architecture only. Of a list ordered best first, the first such kernel is the one.
static inline bool may_run(Isa live, Isa isa) { return isa <= live; }

// Tasks over (member, block of tokens); a task's index is member * blocks + block. A task is worth handing to a thread:
// some 16,000 channels, a few microseconds of work. Blocks are of even size, and a power of two in number, so that
// threads get the same.
struct TokenBlocks {
  int64_t tokens, block, blocks;

  TokenBlocks(int64_t tokens_, int64_t channels) : tokens(tokens_), blocks(1) {
    constexpr int64_t kChannelsPerTask = 16384;
    while (blocks < tokens && tokens * channels > kChannelsPerTask * blocks) blocks *= 2;
    block = (tokens + blocks - 1) / blocks;
    blocks = block > 0 ? (tokens + block - 1) / block : 0;
  }

  size_t tasks(int64_t members) const { return static_cast<size_t>(members * blocks); }
  int64_t member(size_t task) const { return static_cast<int64_t>(task) / blocks; }
  int64_t begin(size_t task) const { return static_cast<int64_t>(task) % blocks * block; }
  int64_t count(size_t task) const { return tokens - begin(task) < block ? tokens - begin(task) : block; }
};

// A kernel that works on some tokens of one member, run over all tokens of all members; rows(arguments, member, begin,
// count) are the kernel's arguments for some of them.
template <class Arguments, class Rows>
struct RowsJob {
  void (*kernel)(const Rows&);
  Rows (*rows)(const Arguments&, int64_t member, int64_t begin, int64_t count);
  const Arguments& arguments;
  TokenBlocks blocks = TokenBlocks(arguments.tokens, arguments.channels);

  void run(const Host& host) { host.parallel_for(host.context, run_task, blocks.tasks(arguments.members), this); }

  static void run_task(void* argument, size_t task) {
    const RowsJob& job = *static_cast<const RowsJob*>(argument);
    const TokenBlocks& blocks = job.blocks;
    job.kernel(job.rows(job.arguments, blocks.member(task), blocks.begin(task), blocks.count(task)));
  }
};

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_DISPATCH_H_
