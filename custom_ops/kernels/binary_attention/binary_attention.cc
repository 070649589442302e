// SPDX-License-Identifier: Apache-2.0
#include "binary_attention.h"

#include <string.h>

#include <atomic>

#include "../dispatch.h"
#include "../memory.h"

namespace bebert {

namespace {

struct Kernel {
  void (*run)(const AttentionHead&);
  size_t (*scratch)(const AttentionConfig&, int64_t, int64_t);
};

Kernel choose(Isa live) {
#define KERNEL(isa) \
  if (may_run(live, Isa::isa)) return {binary_attention_##isa, binary_attention_scratch_##isa};
#include "kernels.inc"
#undef KERNEL
  return {nullptr, nullptr};
}

// Heads of one task: few enough for several tasks, which is worth more than few allocations, and not so few that
// handing a task to a thread costs more than the task.
int64_t heads_per_task(const BinaryAttentionArguments& a) {
  constexpr int64_t kProductsPerTask = 1 << 17, kTasks = 4;
  // Bit-packed heads whose size is not a multiple of eight share bytes of the output, and no two tasks may write one.
  int64_t unit = 1;
  while (a.config.output.width == 1 && unit * a.config.head_size % 8 != 0) unit *= 2;
  const int64_t sequences = a.sequences > 0 ? a.sequences : 1;
  const int64_t head_products = a.query.tokens / sequences * (a.key.tokens / sequences) * a.config.head_size;
  const int64_t wanted = kProductsPerTask / (head_products + 1),
                most = a.members * a.sequences * a.config.heads / kTasks;
  const int64_t heads = wanted < most ? wanted : most;
  if (heads >= a.config.heads) return a.config.heads;
  return heads > unit ? heads / unit * unit : unit;
}

struct Job {
  const BinaryAttentionArguments& a;
  const Host& host;
  Kernel kernel;
  int64_t group, groups;  // heads of one task, tasks of one sequence
  std::atomic<bool> out_of_memory;
};

HeadCodes head_codes(const AttentionCodes& codes, const int64_t* offsets, int64_t member, int64_t head_size,
                     int64_t head) {
  const uint8_t* first_row = codes.codes + (member * codes.tokens + offsets[0]) * codes.row_bytes;
  return {first_row, codes.row_bytes, offsets[1] - offsets[0], codes.channel + head * head_size};
}

// The bias of every distance of key and query within a sequence, 1 - queries .. keys - 1, at its place in the result.
const float* spread_bias(const float* distance_bias, int64_t most_distance, int64_t queries, int64_t keys,
                         float* memory) {
  float* bias = memory + queries - 1;
  for (int64_t distance = 1 - queries; distance < keys; ++distance) {
    const int64_t at_most = distance < most_distance ? distance : most_distance;
    bias[distance] = distance_bias[most_distance + (at_most > -most_distance ? at_most : -most_distance)];
  }
  memset(bias + keys, 0, kKeyBlock * sizeof(float));
  return bias;
}

// Tasks are (member, sequence, group of heads).
void run_task(void* argument, size_t task) {
  Job& job = *static_cast<Job*>(argument);
  const BinaryAttentionArguments& a = job.a;
  const int64_t index = static_cast<int64_t>(task);
  const int64_t first_head = index % job.groups * job.group;
  const int64_t sequence = index / job.groups % a.sequences;
  const int64_t member = index / job.groups / a.sequences;
  const bool last_group = a.config.heads - first_head <= job.group;
  const int64_t end_head = last_group ? a.config.heads : first_head + job.group;

  const int64_t head_size = a.config.head_size;
  const int64_t channels = a.config.heads * head_size;
  const int64_t row_bytes = code_row_bytes(a.config.output, channels);
  const int64_t* query_offsets = a.query_offsets + sequence;
  const int64_t* key_offsets = a.key_offsets + sequence;
  const int64_t queries = query_offsets[1] - query_offsets[0], keys = key_offsets[1] - key_offsets[0];
  if (queries == 0) return;
  uint8_t* codes = a.codes + (member * a.query.tokens + query_offsets[0]) * row_bytes;

  const size_t kernel_bytes = aligned(job.kernel.scratch(a.config, queries, keys));
  const size_t bias_bytes = a.distance_bias ? static_cast<size_t>(queries + keys + kKeyBlock) * sizeof(float) : 0;
  uint8_t* scratch = static_cast<uint8_t*>(job.host.allocate(job.host.context, kernel_bytes + bias_bytes));
  if (!scratch) {
    job.out_of_memory.store(true, std::memory_order_relaxed);
    return;
  }
  for (int64_t h = first_head; h < end_head; ++h) {
    const int64_t parameter = member * a.config.heads + h;
    const int64_t channel = member * channels + h * head_size;
    AttentionHead head;
    head.config = a.config;
    head.query = head_codes(a.query, query_offsets, member, head_size, h);
    head.key = head_codes(a.key, key_offsets, member, head_size, h);
    head.value = head_codes(a.value, key_offsets, member, head_size, h);
    head.score_scale = a.score_scale[parameter];
    head.probability_inverse_step = a.probability_inverse_step[parameter];
    head.context_scale = a.context_scale[parameter];
    head.bias = nullptr;
    if (a.distance_bias) {
      head.bias = spread_bias(a.distance_bias + parameter * (2 * a.most_distance + 1), a.most_distance, queries, keys,
                              reinterpret_cast<float*>(scratch + kernel_bytes));
    }
    head.quantizer = {a.shift + channel, a.inverse_step + channel, a.config.output};
    head.codes = codes;
    head.codes_row_bytes = row_bytes;
    head.codes_channel = h * head_size;
    head.scratch = scratch;
    job.kernel.run(head);
  }
  job.host.release(job.host.context, scratch);
}

}  // namespace

bool binary_attention(Isa isa, const BinaryAttentionArguments& arguments, const Host& host) {
  const int64_t row_bytes =
      code_row_bytes(arguments.config.output, arguments.config.heads * arguments.config.head_size);
  if (arguments.config.output.width == 1) {
    memset(arguments.codes, 0, static_cast<size_t>(arguments.members * arguments.query.tokens * row_bytes));
  }
  const int64_t group = heads_per_task(arguments);
  const int64_t groups = (arguments.config.heads + group - 1) / group;
  Job job = {arguments, host, choose(isa), group, groups, false};
  const int64_t tasks = arguments.members * arguments.sequences * groups;
  host.parallel_for(host.context, run_task, static_cast<size_t>(tasks), &job);
  return !job.out_of_memory.load(std::memory_order_relaxed);
}

}  // namespace bebert
