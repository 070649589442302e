// SPDX-License-Identifier: Apache-2.0
// Choice of a kernel from the list of an op (its kernels.inc), and the size of tasks.
#ifndef BEBERT_EDGE_KERNELS_DISPATCH_H_
#define BEBERT_EDGE_KERNELS_DISPATCH_H_

#include <stddef.h>
#include <stdint.h>

#include "cpu.h"

namespace bebert {

// Whether a kernel of path `isa` may run where `live` is the live path: a path includes those below it, and a library
// has kernels of one architecture only. Of a list ordered best first, the first such kernel is the one.
static inline bool may_run(Isa live, Isa isa) { return isa <= live; }

// Tokens of one task, so that a task is worth handing to a thread: some 32,000 channels, several microseconds of work.
static inline int64_t tokens_per_task(int64_t channels) {
  constexpr int64_t kChannelsPerTask = 32768;
  return channels >= kChannelsPerTask ? 1 : kChannelsPerTask / channels;
}

// Tasks over (member, block of tokens); a task's index is member * blocks + block.
struct TokenBlocks {
  int64_t tokens, block, blocks;

  TokenBlocks(int64_t tokens_, int64_t channels)
      : tokens(tokens_), block(tokens_per_task(channels)), blocks((tokens_ + block - 1) / block) {}

  size_t tasks(int64_t members) const { return static_cast<size_t>(members * blocks); }
  int64_t member(size_t task) const { return static_cast<int64_t>(task) / blocks; }
  int64_t begin(size_t task) const { return static_cast<int64_t>(task) % blocks * block; }
  int64_t count(size_t task) const { return tokens - begin(task) < block ? tokens - begin(task) : block; }
};

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_DISPATCH_H_
