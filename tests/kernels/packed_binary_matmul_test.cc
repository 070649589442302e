// SPDX-License-Identifier: Apache-2.0
#include "../../custom_ops/kernels/arithmetic.h"
#include "packed_binary_matmul_case.h"
#include "tests.h"

namespace bebert {

namespace {

constexpr int64_t kSizes[] = {1, 7, 8, 9, 63, 64, 65, 127, 129, 191, 192, 767, 768};
constexpr int64_t kTokens[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 33};

// The definition: float(sum of value * weight) * scale + bias.
void expect_definition(const MatMulCase& c, const MatMulInputs& inputs, const Array<float>& y,
                       const std::string& what) {
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t n = i % c.n, t = i / c.n % c.tokens, e = i / c.n / c.tokens;
    const int64_t code_member = c.code_members == 1 ? 0 : e;
    const uint8_t* codes = inputs.codes.data() + (code_member * c.tokens + t) * code_row_bytes(c.input, c.k);
    const uint8_t* row = inputs.rows.data() + (e * c.n + n) * packed_row_bytes(c.k);
    int32_t sum = 0;
    for (int64_t k = 0; k < c.k; ++k) sum += code_value(c.input, codes, k) * code_value({1, -1, 1}, row, k);
    const volatile float product = static_cast<float>(sum) * inputs.scale[e * c.n + n];
    const float expected = product + inputs.bias[e * c.n + n];
    if (y[i] != expected) {
      std::printf("%.9g is not %.9g\n", static_cast<double>(y[i]), static_cast<double>(expected));
      expect(false, what);
    }
  }
}

void expect_same_on_every_path(const MatMulCase& c, const MatMulInputs& inputs, const MatMulOutputs& expected) {
  for (Isa isa : paths()) {
    const MatMulOutputs found(c);
    run(c, inputs, isa, found);
    expect_same(found.y, expected.y, c.describe(isa));
    expect_same(found.codes, expected.codes, c.describe(isa));
  }
}

void compare(Random& random, const MatMulCase& c) {
  const MatMulInputs inputs(random, c);
  const MatMulOutputs expected(c);
  run(c, inputs, Isa::scalar, expected);
  if (!c.to_codes && c.k * c.n <= 127 * 127) expect_definition(c, inputs, expected.y, c.describe(Isa::scalar));
  expect_same_on_every_path(c, inputs, expected);
}

// All codes and weights at their ends, so that sums of table entries are as large as they can be.
void compare_largest(CodeType input) {
  Random random(0);
  const MatMulCase c = {1, 1, 3, 5000, 67, input, {8, 0, 255}, Activation::none, false};
  const MatMulInputs inputs(random, c);
  const int64_t row_bytes = code_row_bytes(input, c.k);
  for (int64_t i = 0; i < row_bytes; ++i) {
    const int all = input.width == 1 ? 255 : input.high - input.low;
    inputs.codes[i] = 0;
    inputs.codes[row_bytes + i] = static_cast<uint8_t>(all);
  }
  if (input.width == 1) inputs.codes[row_bytes + row_bytes - 1] = 0;  // 5000 = 78 * 64 + 8: seven bytes of padding
  if (input.width == 1) memset(inputs.codes.data() + 2 * row_bytes - 7, 0, 7);
  for (int64_t b = 0; b < packed_row_bytes(c.k); ++b) {
    const int64_t second = packed_row_bytes(c.k) + b;
    inputs.rows[b] = 0;
    inputs.rows[second] = b < c.k / 8 ? 255 : 0;
  }
  const MatMulOutputs expected(c);
  run(c, inputs, Isa::scalar, expected);
  expect_definition(c, inputs, expected.y, "packed_binary_matmul scalar: largest sums");
  expect_same_on_every_path(c, inputs, expected);
}

// Shifts that put every GELU within some 1e-5 of a tie between two codes.
void compare_near_ties(Random& random, CodeType output) {
  const MatMulCase c = {1, 1, 1, 1, 768, {1, -1, 1}, output, Activation::gelu, true};
  const MatMulInputs inputs(random, c);
  for (int64_t n = 0; n < c.n; ++n) {
    const float sum = inputs.codes[0] == inputs.rows[n * 8] ? 1.0f : -1.0f;
    inputs.scale[n] = random.uniform(0, 3);
    const volatile float product = sum * inputs.scale[n];
    const float y = gelu(product + inputs.bias[n]);
    const float tie = output.width == 1 ? 0.5f * static_cast<float>(output.low + output.high) : 0.5f;
    inputs.shift[n] = tie / inputs.inverse_step[n] - y + random.uniform(-2e-5f, 2e-5f);
  }
  const MatMulOutputs expected(c);
  run(c, inputs, Isa::scalar, expected);
  expect_same_on_every_path(c, inputs, expected);
}

}  // namespace

void test_packed_binary_matmul(uint64_t seed) {
  Random random(seed);
  for (CodeType output : kCodeTypes) compare_near_ties(random, output);
  for (CodeType input : kCodeTypes) {
    compare_largest(input);
    for (int64_t k : kSizes) {
      for (int repeat = 0; repeat < 3; ++repeat) {
        MatMulCase c;
        c.members = 1 + random.below(3);
        c.code_members = random.below(2) ? 1 : c.members;
        c.tokens = random.pick(kTokens);
        c.k = k;
        c.n = random.pick(kSizes);
        c.input = input;
        c.output = random.pick(kCodeTypes);
        c.activation = random.pick(kActivations);
        c.to_codes = repeat > 0;
        compare(random, c);
      }
    }
    // More channels of K, tokens and output channels than one pass of a kernel takes.
    compare(random, {1, 1, 70, 1700, 70, input, random.pick(kCodeTypes), Activation::none, false});
    // Enough work for a split over output channels.
    compare(random, {1, 1, 16, 768, 768, input, random.pick(kCodeTypes), Activation::gelu, true});
  }
}

}  // namespace bebert
