// SPDX-License-Identifier: Apache-2.0
// Bits by intervals of exact sums: every sum that can occur, against the float arithmetic of scalar.
#include "../../custom_ops/kernels/arithmetic.h"
#include "../../custom_ops/kernels/packed_binary_matmul/packed_binary_matmul.h"
#include "support.h"
#include "test_host.h"
#include "tests.h"

namespace bebert {

namespace {

constexpr int64_t kChannels = 131;
constexpr int64_t kMembers = 2;

struct Parameters {
  Array<float> scale{kMembers * kChannels}, bias{kMembers * kChannels}, shift{kMembers * kChannels},
      inverse_step{kMembers * kChannels};

  // Both signs of everything, channels that never change, and thresholds on both sides of GELU's minimum of -0.17.
  Parameters(Random& random, int64_t k) {
    const float spread = 3 / std::sqrt(static_cast<float>(k));
    fill_floats(random, -spread, spread, scale);
    fill_floats(random, -1, 1, bias);
    fill_floats(random, -0.2f, 0.2f, shift);
    fill_floats(random, -3, 3, inverse_step);
    for (int64_t i = 0; i < scale.size(); i += 7) {
      scale[i] = i % 2 ? 0 : scale[i];
      shift[i] = i % 3 ? 1e3f : -1e3f;
      inverse_step[i] = i % 5 ? inverse_step[i] : 0;
    }
    for (int64_t i = 0; i < scale.size(); i += 11) {  // ties
      scale[i] = 0.25f;
      bias[i] = 0.5f;
      shift[i] = 0;
      inverse_step[i] = i % 2 ? 1.0f : -2.0f;
    }
  }
};

// Token t of `codes`, times weights of +1 only, has the sum number t of all that can occur.
int64_t fill_every_sum(CodeType input, int64_t k, uint8_t* codes) {
  const int64_t range = input.width == 1 ? 1 : input.high - input.low, tokens = k * range + 1,
                row_bytes = code_row_bytes(input, k);
  if (!codes) return tokens;
  memset(codes, 0, static_cast<size_t>(tokens * row_bytes));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t c = 0; c < k; ++c) {
      const int64_t level = t <= c * range ? 0 : t - c * range < range ? t - c * range : range;
      uint8_t* row = codes + t * row_bytes;
      if (input.width == 8) {
        row[c] = static_cast<uint8_t>(level);
      } else {
        row[c / 8] = static_cast<uint8_t>(row[c / 8] | level << c % 8);
      }
    }
  }
  return tokens;
}

void run(const PackedBinaryMatMulPlan& plan, PackedBinaryMatMulArgs args, const Array<uint8_t>& rows, uint8_t* out) {
  TestHost host;
  const Array<uint8_t> weights(static_cast<int64_t>(packed_binary_matmul_interleaved_bytes(plan)), 64);
  packed_binary_matmul_interleave(plan, rows.data(), weights.data(), host.host());
  args.weights = weights.data();
  args.codes_out = out;
  expect(packed_binary_matmul_run(plan, args, host.host()), "zero ranges: enough memory");
}

void compare(Random& random, int64_t k, CodeType input, CodeType output, Activation activation) {
  const Parameters parameters(random, k);
  const Array<uint8_t> codes(fill_every_sum(input, k, nullptr) * code_row_bytes(input, k));
  PackedBinaryMatMulArgs args = {};
  args.tokens = fill_every_sum(input, k, codes.data());
  args.codes = codes.data();
  args.code_members = 1;
  args.scale = parameters.scale.data();
  args.bias = parameters.bias.data();
  args.shift = parameters.shift.data();
  args.inverse_step = parameters.inverse_step.data();
  args.activation = activation;
  args.output = output;
  // Every other channel has weights of -1.
  const int64_t row_bytes = packed_row_bytes(k);
  const Array<uint8_t> rows(kMembers * kChannels * row_bytes);
  for (int64_t i = 0; i < rows.size(); ++i) {
    const int64_t left = k - i % row_bytes * 8;
    rows[i] = static_cast<uint8_t>(i / row_bytes % 2 || left <= 0 ? 0 : left >= 8 ? 255 : (1 << left) - 1);
  }

  const int64_t bytes = kMembers * args.tokens * code_row_bytes(output, kChannels);
  const Array<uint8_t> expected(bytes);
  run({kMembers, kChannels, k, input, Isa::scalar}, args, rows, expected.data());
  for (Isa isa : paths()) {
    const int64_t sets = packed_binary_matmul_zero_sets(output);
    const Array<int32_t> begin(sets * kMembers * kChannels);
    const Array<uint32_t> length(sets * kMembers * kChannels);
    const PackedBinaryMatMulPlan plan = {kMembers, kChannels, k, input, isa};
    if (!packed_binary_matmul_zero_ranges(plan, args, begin.data(), length.data())) {
      // That path finds levels of ternary codes.
      const bool finds = output.width == 1 ? isa == Isa::x86_avx512 : isa == Isa::x86_avx2;
      expect(!finds, "zero ranges: found");
      continue;
    }
    const std::string what =
        format("zero ranges %s: k %d, input %s, output %s, activation %d", name(isa), static_cast<int>(k),
               text(input).c_str(), text(output).c_str(), static_cast<int>(activation));
    args.zero_begin = begin.data();
    args.zero_length = length.data();
    const Array<uint8_t> found(bytes);
    run(plan, args, rows, found.data());
    expect_same(found, expected, what);
    args.zero_begin = nullptr;
    args.zero_length = nullptr;
  }
}

// Around its minimum GELU is flat, and its rounding errors go up and down: a threshold there is met many times.
void expect_refusals(Isa isa) {
  const float scale = 1e-7f, bias = -0.7517f, inverse_step = 1;
  float shift = 0;
  PackedBinaryMatMulArgs args = {};
  args.scale = &scale;
  args.bias = &bias;
  args.shift = &shift;
  args.inverse_step = &inverse_step;
  args.output = {1, -1, 1};
  int32_t begin;
  uint32_t length;
  const auto found = [&](int64_t k, CodeType input) {
    return packed_binary_matmul_zero_ranges({1, 1, k, input, isa}, args, &begin, &length);
  };
  expect(found(300, {1, 0, 1}), "zero ranges: no activation");
  expect(!found(int64_t{1} << 30, {8, 0, 255}), "zero ranges: too many sums");
  args.activation = Activation::gelu;
  shift = -gelu(bias);
  expect(!found(300, {1, 0, 1}), "zero ranges: several intervals");
  args.activation = Activation::none;
  args.output = {8, -2, 1};
  expect(!found(300, {1, 0, 1}), "zero ranges: codes of width 8");
}

}  // namespace

void test_packed_binary_matmul_zero_ranges(uint64_t seed) {
  Random random(seed);
  for (Isa isa : paths()) {
    if (isa == Isa::x86_avx512) expect_refusals(isa);
  }
  for (Activation activation : {Activation::none, Activation::relu, Activation::gelu}) {
    for (CodeType output : {CodeType{1, -1, 1}, CodeType{1, 0, 1}, CodeType{8, -1, 1}}) {
      for (int64_t k : {1, 7, 64, 127, 300}) {
        compare(random, k, {1, -1, 1}, output, activation);
        compare(random, k, {1, 0, 1}, output, activation);
      }
      compare(random, 65, {8, -1, 1}, output, activation);
      compare(random, 33, {8, -8, 7}, output, activation);
      compare(random, 8, {8, 0, 255}, output, activation);
    }
  }
}

}  // namespace bebert
