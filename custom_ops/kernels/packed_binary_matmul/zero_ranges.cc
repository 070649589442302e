// SPDX-License-Identifier: Apache-2.0
// Codes of width 1, and ternary codes, without float arithmetic: the exact sums whose bit is 0, for each output
// channel.
#include "kernel.h"

namespace bebert {

namespace {

// Beyond this many sums the search takes longer than it can save.
constexpr int64_t kMostSums = 4096;

// The sums that an output channel can have: every `step` from -bound to bound.
struct Sums {
  int64_t bound, step;

  Sums(int64_t k, CodeType input) : bound(largest_sum(k, input)), step(input.width == 1 && input.low < 0 ? 2 : 1) {}
  int64_t count() const { return 2 * bound / step + 1; }
  int32_t at(int64_t i) const { return static_cast<int32_t>(i * step - bound); }
};

// The bits of channel c of `task`, for each sum: bit c of a word.
void evaluate(const PackedBinaryMatMulKernel& kernel, PackedBinaryMatMulTask task, const Sums& sums, uint64_t* bits) {
  alignas(64) int32_t tile[kTokenBlock][kChannelBlock];
  for (int64_t i = 0; i < sums.count(); i += kTokenBlock) {
    task.tokens = sums.count() - i < kTokenBlock ? sums.count() - i : kTokenBlock;
    for (int64_t t = 0; t < task.tokens; ++t) {
      for (int32_t& sum : tile[t]) sum = sums.at(i + t);
    }
    task.codes_out = reinterpret_cast<uint8_t*>(bits + i);
    kernel.store(task, 0, tile[0]);
  }
}

// The zeros of each channel begin at one sum and end at another, or there are none: then the interval is one sum that
// does not occur. False if the bit of some channel changes more than twice.
bool find_intervals(const uint64_t* bits, const Sums& sums, int32_t* begin, int32_t* end) {
  for (int64_t c = 0; c < kChannelBlock; ++c) {
    begin[c] = bits[0] >> c & 1 ? sums.at(sums.count()) : sums.at(0);
    end[c] = sums.at(sums.count() - 1);
  }
  uint64_t once = 0, twice = 0;
  for (int64_t i = 1; i < sums.count(); ++i) {
    const uint64_t changed = bits[i] ^ bits[i - 1];
    if (changed & twice) return false;
    twice |= changed & once;
    once |= changed;
    for (int64_t c = 0; c < kChannelBlock && changed >> c; ++c) {
      if (!(changed >> c & 1)) continue;
      if (bits[i] >> c & 1) {
        end[c] = sums.at(i - 1);
      } else {
        begin[c] = sums.at(i);
      }
    }
  }
  for (int64_t c = 0; c < kChannelBlock; ++c) {
    if (bits[0] & ~once & uint64_t{1} << c) end[c] = begin[c];
  }
  return true;
}

// Of the bits of `output`, of width 1, for z or for -z.
bool find_ranges(const PackedBinaryMatMulPlan& plan, const PackedBinaryMatMulArgs& args, CodeType output, bool negate,
                 int32_t* zero_begin, uint32_t* zero_length) {
  const PackedBinaryMatMulKernel& kernel = choose_kernel(plan.isa);
  const Sums sums(plan.k, plan.input);
  if (sums.count() > kMostSums) return false;
  uint64_t bits[kMostSums];
  for (int64_t channel = 0; channel < plan.members * plan.n;) {
    PackedBinaryMatMulTask task = {};
    task.scale = args.scale + channel;
    task.bias = args.bias + channel;
    task.shift = args.shift + channel;
    const int64_t left = plan.members * plan.n - channel;
    task.n = left < kChannelBlock ? left : kChannelBlock;
    float inverse_step[kChannelBlock];
    for (int64_t c = 0; c < task.n; ++c) {
      inverse_step[c] = negate ? -args.inverse_step[channel + c] : args.inverse_step[channel + c];
    }
    task.inverse_step = inverse_step;
    task.output = output;
    task.activation = args.activation;
    evaluate(kernel, task, sums, bits);
    int32_t begin[kChannelBlock], end[kChannelBlock];
    if (!find_intervals(bits, sums, begin, end)) return false;
    for (int64_t c = 0; c < task.n; ++c, ++channel) {
      zero_begin[channel] = begin[c];
      zero_length[channel] = static_cast<uint32_t>(end[c]) - static_cast<uint32_t>(begin[c]);
    }
  }
  return true;
}

}  // namespace

int64_t packed_binary_matmul_zero_sets(CodeType output) { return output.width == 1 ? 1 : is_ternary(output) ? 2 : 0; }

bool packed_binary_matmul_zero_ranges(const PackedBinaryMatMulPlan& plan, const PackedBinaryMatMulArgs& args,
                                      int32_t* zero_begin, uint32_t* zero_length) {
  const PackedBinaryMatMulKernel& kernel = choose_kernel(plan.isa);
  if (!kernel.store) return false;
  if (args.output.width == 1) return find_ranges(plan, args, args.output, false, zero_begin, zero_length);
  if (!is_ternary(args.output) || kernel.level_bytes) return false;
  // The ties of z at -1/2 and 1/2 go to 0, as those of a bool code do.
  constexpr CodeType kBool = {1, 0, 1};
  const int64_t set = plan.members * plan.n;
  return find_ranges(plan, args, kBool, false, zero_begin, zero_length) &&
         find_ranges(plan, args, kBool, true, zero_begin + set, zero_length + set);
}

}  // namespace bebert
