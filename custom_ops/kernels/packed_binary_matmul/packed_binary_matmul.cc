// SPDX-License-Identifier: Apache-2.0
// The driver: splits the product into tasks of some tokens by some output channels of one member.
#include "packed_binary_matmul.h"

#include <atomic>

#include "kernel.h"

namespace bebert {

namespace {

// Tables of one block of tokens should stay in a second-level cache beside the weights.
constexpr int64_t kTableBudget = 448 << 10;
// A multiple of every token tile of the CPU paths.
constexpr int64_t kTileTokens = 8;

// Below this many tasks channels are split too, as far as each task keeps some microseconds of work: that of this many
// one-bit products. Those of codes of four bits take about twice, those of eight about four times as long.
constexpr int64_t kEnoughTasks = 8;
constexpr int64_t kProductsPerTask = 4 << 20;

int64_t cost(CodeType input) { return input.width == 1 ? 1 : input.high - input.low > 15 ? 4 : 2; }

int64_t at_least(int64_t a, int64_t b) { return a > b ? a : b; }
int64_t even(int64_t a) { return a + a % 2; }

// Of one member.
int64_t level_bytes(const PackedBinaryMatMulPlan& plan, CodeType output, Activation activation) {
  const PackedBinaryMatMulKernel& kernel = choose_kernel(plan.isa);
  if (!kernel.level_bytes) return 0;
  return static_cast<int64_t>(kernel.level_bytes(plan.n, plan.k, plan.input, output, activation));
}

struct Job {
  const PackedBinaryMatMulPlan& plan;
  const PackedBinaryMatMulArgs& args;
  const Host& host;
  const PackedBinaryMatMulKernel& kernel;
  int64_t table_bytes;     // of one token
  int64_t block, blocks;   // tokens of one block, blocks of one member
  int64_t slice, slices;   // output channels of one task, tasks of one block
  uint8_t* shared_tables;  // [code_members, even(tokens), table_bytes], or null if each task builds its own
  std::atomic<bool> out_of_memory;

  Job(const PackedBinaryMatMulPlan& plan_, const PackedBinaryMatMulArgs& args_, const Host& host_)
      : plan(plan_),
        args(args_),
        host(host_),
        kernel(choose_kernel(plan_.isa)),
        shared_tables(nullptr),
        out_of_memory(false) {
    table_bytes = static_cast<int64_t>(kernel.table_bytes(plan.k, plan.input));
    const int64_t fit = table_bytes ? kTableBudget / table_bytes / kTileTokens * kTileTokens : kTokenBlock;
    blocks = divide_up(args.tokens, at_least(smaller(fit, kTokenBlock), kTileTokens));
    block = divide_up(divide_up(args.tokens, blocks), kTileTokens) * kTileTokens;

    const int64_t token_tasks = blocks * plan.members;
    const int64_t products = smaller(block, args.tokens) * plan.n * plan.k * cost(plan.input);
    const int64_t wanted = smaller(kEnoughTasks / token_tasks, products / kProductsPerTask);
    slice = divide_up(divide_up(plan.n, at_least(wanted, 1)), kChannelBlock) * kChannelBlock;
    slices = divide_up(plan.n, slice);
  }

  int64_t begin(int64_t block_index) const { return block_index * block; }
  int64_t count(int64_t block_index) const { return smaller(block, args.tokens - begin(block_index)); }

  const uint8_t* codes(int64_t code_member, int64_t token) const {
    return args.codes + (code_member * args.tokens + token) * code_row_bytes(plan.input, plan.k);
  }
  uint8_t* shared_tables_of(int64_t code_member, int64_t token) const {
    return shared_tables + (code_member * even(args.tokens) + token) * table_bytes;
  }
};

// Tasks of this function are (code member, block of tokens).
void build_shared_tables(void* argument, size_t task) {
  const Job& job = *static_cast<const Job*>(argument);
  const int64_t code_member = static_cast<int64_t>(task) / job.blocks;
  const int64_t block = static_cast<int64_t>(task) % job.blocks;
  const int64_t token = job.begin(block);
  job.kernel.build_tables(job.codes(code_member, token), job.count(block), job.plan.k, job.plan.input,
                          job.shared_tables_of(code_member, token));
}

// Tasks of this function are (member, block of tokens, slice of channels).
void multiply(void* argument, size_t index) {
  Job& job = *static_cast<Job*>(argument);
  const PackedBinaryMatMulPlan& plan = job.plan;
  const PackedBinaryMatMulArgs& args = job.args;
  const int64_t slice = static_cast<int64_t>(index) % job.slices;
  const int64_t block = static_cast<int64_t>(index) / job.slices % job.blocks;
  const int64_t member = static_cast<int64_t>(index) / job.slices / job.blocks;
  const int64_t code_member = args.code_members == 1 ? 0 : member;
  const int64_t token = job.begin(block);

  PackedBinaryMatMulTask task = {};
  task.codes = job.codes(code_member, token);
  task.weights = args.weights + member * static_cast<int64_t>(job.kernel.interleaved_bytes(plan.n, plan.k));
  task.scale = args.scale + member * plan.n;
  task.bias = args.bias + member * plan.n;
  if (args.codes_out) {
    task.shift = args.shift + member * plan.n;
    task.inverse_step = args.inverse_step + member * plan.n;
    task.codes_out = args.codes_out + (member * args.tokens + token) * code_row_bytes(args.output, plan.n);
    task.output = args.output;
    task.activation = args.activation;
    if (args.levels)
      task.levels = static_cast<const uint8_t*>(args.levels) + member * level_bytes(plan, args.output, args.activation);
    if (args.zero_begin) {
      task.zero_begin = args.zero_begin + member * plan.n;
      task.zero_length = args.zero_length + member * plan.n;
      task.zero_set = plan.members * plan.n;
    }
  } else {
    task.y = args.y + (member * args.tokens + token) * plan.n;
  }
  task.tokens = job.count(block);
  task.n = plan.n;
  task.k = plan.k;
  task.channel_begin = slice * job.slice;
  task.channel_end = smaller(task.channel_begin + job.slice, plan.n);
  task.input = plan.input;

  if (job.table_bytes == 0 || job.shared_tables) {
    if (job.shared_tables) task.tables = job.shared_tables_of(code_member, token);
    job.kernel.multiply(task);
    return;
  }
  void* tables = job.host.allocate(job.host.context, static_cast<size_t>(even(task.tokens) * job.table_bytes));
  if (!tables) {
    job.out_of_memory.store(true, std::memory_order_relaxed);
    return;
  }
  job.kernel.build_tables(task.codes, task.tokens, plan.k, plan.input, tables);
  task.tables = tables;
  job.kernel.multiply(task);
  job.host.release(job.host.context, tables);
}

}  // namespace

size_t packed_binary_matmul_interleaved_bytes(const PackedBinaryMatMulPlan& plan) {
  return static_cast<size_t>(plan.members) * choose_kernel(plan.isa).interleaved_bytes(plan.n, plan.k);
}

void packed_binary_matmul_interleave(const PackedBinaryMatMulPlan& plan, const uint8_t* rows, uint8_t* out,
                                     const Host& host) {
  struct Members {
    const PackedBinaryMatMulPlan& plan;
    const PackedBinaryMatMulKernel& kernel;
    const uint8_t* rows;
    uint8_t* out;
  } members = {plan, choose_kernel(plan.isa), rows, out};
  const auto interleave_member = [](void* argument, size_t member) {
    const Members& m = *static_cast<const Members*>(argument);
    const size_t row_bytes = static_cast<size_t>(packed_row_bytes(m.plan.k));
    m.kernel.interleave(m.rows + member * static_cast<size_t>(m.plan.n) * row_bytes, m.plan.n, m.plan.k, m.plan.input,
                        m.out + member * m.kernel.interleaved_bytes(m.plan.n, m.plan.k));
  };
  host.parallel_for(host.context, interleave_member, static_cast<size_t>(plan.members), &members);
}

size_t packed_binary_matmul_level_bytes(const PackedBinaryMatMulPlan& plan, CodeType output, Activation activation) {
  return static_cast<size_t>(plan.members * level_bytes(plan, output, activation));
}

int64_t packed_binary_matmul_find_levels(const PackedBinaryMatMulPlan& plan, const PackedBinaryMatMulArgs& args,
                                         void* levels) {
  int64_t found = 0;
  for (int64_t member = 0; member < plan.members; ++member) {
    PackedBinaryMatMulTask task = {};
    task.scale = args.scale + member * plan.n;
    task.bias = args.bias + member * plan.n;
    task.shift = args.shift + member * plan.n;
    task.inverse_step = args.inverse_step + member * plan.n;
    task.n = plan.n;
    task.k = plan.k;
    task.input = plan.input;
    task.output = args.output;
    task.activation = args.activation;
    void* of_member = static_cast<uint8_t*>(levels) + member * level_bytes(plan, args.output, args.activation);
    found += choose_kernel(plan.isa).find_levels(task, of_member);
  }
  return found;
}

bool packed_binary_matmul_run(const PackedBinaryMatMulPlan& plan, const PackedBinaryMatMulArgs& args,
                              const Host& host) {
  if (args.tokens == 0 || plan.members == 0) return true;
  Job job(plan, args, host);
  if (job.table_bytes > 0 && job.slices > 1) {
    const int64_t bytes = args.code_members * even(args.tokens) * job.table_bytes;
    job.shared_tables = static_cast<uint8_t*>(host.allocate(host.context, static_cast<size_t>(bytes)));
    if (!job.shared_tables) return false;
    host.parallel_for(host.context, build_shared_tables, static_cast<size_t>(args.code_members * job.blocks), &job);
  }
  host.parallel_for(host.context, multiply, static_cast<size_t>(plan.members * job.blocks * job.slices), &job);
  if (job.shared_tables) host.release(host.context, job.shared_tables);
  return !job.out_of_memory.load(std::memory_order_relaxed);
}

}  // namespace bebert
