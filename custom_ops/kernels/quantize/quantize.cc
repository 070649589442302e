// SPDX-License-Identifier: Apache-2.0
#include "quantize.h"

#include "../dispatch.h"

namespace bebert {

namespace {

using Kernel = void (*)(const QuantizeRows&);

Kernel choose(Isa live) {
#define KERNEL(isa) \
  if (may_run(live, Isa::isa)) return quantize_##isa;
#include "kernels.inc"
#undef KERNEL
  return nullptr;
}

struct Job {
  const QuantizeArguments& a;
  TokenBlocks blocks;
  Kernel kernel;
};

void run_task(void* argument, size_t task) {
  const Job& job = *static_cast<const Job*>(argument);
  const QuantizeArguments& a = job.a;
  const int64_t member = job.blocks.member(task);
  const int64_t begin = job.blocks.begin(task);
  const int64_t x_member = a.x_members == 1 ? 0 : member;
  QuantizeRows rows;
  rows.x = a.x + (x_member * a.tokens + begin) * a.channels;
  rows.tokens = job.blocks.count(task);
  rows.channels = a.channels;
  rows.quantizer = {a.shift + member * a.channels, a.inverse_step + member * a.channels, a.code};
  rows.codes = a.codes + (member * a.tokens + begin) * code_row_bytes(a.code, a.channels);
  job.kernel(rows);
}

}  // namespace

void quantize(Isa isa, const QuantizeArguments& arguments, const Host& host) {
  Job job = {arguments, TokenBlocks(arguments.tokens, arguments.channels), choose(isa)};
  host.parallel_for(host.context, run_task, job.blocks.tasks(arguments.members), &job);
}

}  // namespace bebert
