// SPDX-License-Identifier: Apache-2.0
#include "../../custom_ops/kernels/arithmetic.h"
#include "fuzz.h"
#include "packed_binary_matmul_case.h"

namespace bebert {

namespace {

MatMulCase draw_case(Random& random) {
  MatMulCase c;
  c.members = 1 + random.below(3);
  c.code_members = random.one_in(2) ? 1 : c.members;
  c.tokens = random.one_in(50) ? 0 : draw_size(random, 100);
  c.k = draw_size(random, 4000);
  c.n = draw_size(random, 1200);
  // At 66,000 channels of 8-bit codes sums pass 2^24, and so float(sum) rounds.
  if (random.one_in(64)) c.k = 65000 + random.below(2000);
  // Products of more than eight million are split over output channels.
  limit_product(random.one_in(24) ? 40'000'000 : 600'000, {&c.members, &c.tokens, &c.n, &c.k});
  if (c.code_members > c.members) c.code_members = c.members;
  c.input = random.pick(kCodeTypes);
  c.output = random.pick(kCodeTypes);
  c.activation = random.pick(kActivations);
  c.to_codes = !random.one_in(3);
  return c;
}

void vary(Random& random, const MatMulCase& c, const MatMulInputs& inputs) {
  vary_codes(random, c.input, c.code_members * c.tokens, c.k, inputs.codes.data());
  vary_codes(random, {1, -1, 1}, c.members * c.n, c.k, inputs.rows.data());
  const int64_t style = random.below(4);
  if (style == 0) {
    const float unit = std::exp2(static_cast<float>(random.below(60) - 30));
    for (int64_t i = 0; i < inputs.scale.size(); ++i) {
      inputs.scale[i] = unit * random.pick({1.0f, 1.0f, -1.0f, 2.0f});
      inputs.bias[i] = unit * static_cast<float>(random.below(9) - 4);
    }
    const float spread = largest_value(c.input) * std::sqrt(static_cast<float>(c.k));
    tie_exactly(random, c.output, unit, spread, inputs.shift, inputs.inverse_step);
    return;
  }
  for (const Array<float>* floats : {&inputs.scale, &inputs.bias, &inputs.shift, &inputs.inverse_step}) {
    vary_floats(random, *floats);
  }
  if (style == 1 && c.to_codes) {
    MatMulCase floats = c;
    floats.to_codes = false;
    const MatMulOutputs out(floats);
    run(floats, inputs, Isa::scalar, out);
    for (int64_t i = 0; i < out.y.size(); ++i) {
      if (c.activation == Activation::relu) out.y[i] = maximum(out.y[i], 0);
      if (c.activation == Activation::gelu) out.y[i] = gelu(out.y[i]);
    }
    tie_nearly(random, c.output, c.n, out.y, inputs.shift, inputs.inverse_step);
  }
}

// The product of one path; with `by_sums`, codes by the sum alone where the path can.
void multiply(const Fuzz& fuzz, const MatMulCase& c, const MatMulInputs& inputs, Isa isa, bool by_sums,
              const MatMulOutputs& out) {
  TestHost host;
  const MatMul product(c, inputs, isa, host);
  PackedBinaryMatMulArgs args = product.arguments();
  const int64_t ranges = by_sums ? packed_binary_matmul_zero_sets(c.output) * c.members * c.n : 0;
  const Array<int32_t> begin(ranges);
  const Array<uint32_t> length(ranges);
  if (ranges > 0 && packed_binary_matmul_zero_ranges(product.plan, args, begin.data(), length.data())) {
    args.zero_begin = begin.data();
    args.zero_length = length.data();
  }
  const size_t level_bytes = by_sums ? packed_binary_matmul_level_bytes(product.plan, c.output, c.activation) : 0;
  const Array<uint8_t> levels(static_cast<int64_t>(level_bytes), 64);
  if (level_bytes > 0) {
    packed_binary_matmul_find_levels(product.plan, args, levels.data());
    args.levels = levels.data();
  }
  fuzz.run(host, [&] { product.run(args, out, host); });
}

}  // namespace

void fuzz_packed_binary_matmul(Fuzz& fuzz) {
  const MatMulCase c = draw_case(fuzz.random);
  const MatMulInputs inputs(fuzz.random, c);
  vary(fuzz.random, c, inputs);
  const bool by_sums = c.to_codes && fuzz.random.one_in(2);
  fuzz.announce(Isa::scalar);
  const MatMulOutputs expected(c);
  run(c, inputs, Isa::scalar, expected);
  for (Isa isa : fuzz.paths) {
    fuzz.announce(isa);
    const MatMulOutputs found(c, fuzz.initial);
    multiply(fuzz, c, inputs, isa, by_sums, found);
    const std::string what = c.describe(isa) + (by_sums ? ", by sums" : "");
    expect_same(found.y, expected.y, what);
    expect_same(found.codes, expected.codes, what);
  }
}

}  // namespace bebert
