// SPDX-License-Identifier: Apache-2.0
#include "../../custom_ops/kernels/packed_binary_matmul/packed_binary_matmul.h"

#include "../../custom_ops/kernels/arithmetic.h"
#include "support.h"

namespace bebert {

namespace {

constexpr int64_t kSizes[] = {1, 7, 8, 9, 63, 64, 65, 127, 129, 191, 192, 767, 768};
constexpr int64_t kTokens[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 33};
constexpr Activation kActivations[] = {Activation::none, Activation::relu, Activation::gelu};

struct Case {
  int64_t members, code_members, tokens, k, n;
  CodeType input, output;
  Activation activation;
  bool to_codes;

  void describe(Isa isa, char (&text)[256]) const {
    std::snprintf(
        text, sizeof(text),
        "packed_binary_matmul %s: members %lld, code members %lld, tokens %lld, k %lld, n %lld, input [%d, %d, "
        "%d], output [%d, %d, %d], activation %d, to %s",
        name(isa), static_cast<long long>(members), static_cast<long long>(code_members),
        static_cast<long long>(tokens), static_cast<long long>(k), static_cast<long long>(n), input.width, input.low,
        input.high, output.width, output.low, output.high, static_cast<int>(activation), to_codes ? "codes" : "floats");
  }
};

struct Inputs {
  Array<uint8_t> codes, rows;
  Array<float> scale, bias, shift, inverse_step;

  Inputs(Random& random, const Case& c)
      : codes(c.code_members * c.tokens * code_row_bytes(c.input, c.k)),
        rows(c.members * c.n * packed_row_bytes(c.k)),
        scale(c.members * c.n),
        bias(c.members * c.n),
        shift(c.members * c.n),
        inverse_step(c.members * c.n) {
    fill_codes(random, c.input, c.code_members * c.tokens, c.k, codes.data());
    fill_codes(random, {1, -1, 1}, c.members * c.n, c.k, rows.data());
    const float largest = static_cast<float>(c.input.high > -c.input.low ? c.input.high : -c.input.low);
    const float spread = 2.0f / (largest * std::sqrt(static_cast<float>(c.k)));
    fill_floats(random, 0, spread, scale);
    fill_floats(random, -1, 1, bias);
    fill_quantizer(random, c.output, shift, inverse_step);
  }
};

struct Outputs {
  Array<float> y;
  Array<uint8_t> codes;

  Outputs(const Case& c, const Inputs& inputs, Isa isa)
      : y(c.to_codes ? 0 : c.members * c.tokens * c.n),
        codes(c.to_codes ? c.members * c.tokens * code_row_bytes(c.output, c.n) : 0) {
    TestHost host;
    const PackedBinaryMatMulPlan plan = {c.members, c.n, c.k, c.input, isa};
    const Array<uint8_t> weights(static_cast<int64_t>(packed_binary_matmul_interleaved_bytes(plan)));
    packed_binary_matmul_interleave(plan, inputs.rows.data(), weights.data(), host.host());

    PackedBinaryMatMulArgs args = {};
    args.codes = inputs.codes.data();
    args.code_members = c.code_members;
    args.tokens = c.tokens;
    args.weights = weights.data();
    args.scale = inputs.scale.data();
    args.bias = inputs.bias.data();
    if (c.to_codes) {
      args.shift = inputs.shift.data();
      args.inverse_step = inputs.inverse_step.data();
      args.output = c.output;
      args.activation = c.activation;
      args.codes_out = codes.data();
    } else {
      args.y = y.data();
    }
    expect(packed_binary_matmul_run(plan, args, host.host()), "packed_binary_matmul: enough memory");
    expect(host.allocated == 0, "packed_binary_matmul: releases what it allocates");
    host.out_of_memory = true;
    if (c.tokens > 0 && c.input.width == 8) {
      expect(!packed_binary_matmul_run(plan, args, host.host()), "packed_binary_matmul: says that memory ran out");
      host.out_of_memory = false;
      expect(packed_binary_matmul_run(plan, args, host.host()), "packed_binary_matmul: enough memory again");
    }
  }
};

// The definition: float(sum of value * weight) * scale + bias.
void expect_definition(const Case& c, const Inputs& inputs, const Array<float>& y, const char* what) {
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

void compare(Random& random, const Case& c) {
  const Inputs inputs(random, c);
  const Outputs expected(c, inputs, Isa::scalar);
  char text[256];
  if (!c.to_codes && c.k * c.n <= 127 * 127) {
    c.describe(Isa::scalar, text);
    expect_definition(c, inputs, expected.y, text);
  }
  for (Isa isa : paths()) {
    const Outputs found(c, inputs, isa);
    c.describe(isa, text);
    expect_same(found.y, expected.y, text);
    expect_same(found.codes, expected.codes, text);
  }
}

// All codes and weights at their ends, so that sums of table entries are as large as they can be.
void compare_largest(CodeType input) {
  Random random(0);
  const Case c = {1, 1, 3, 5000, 67, input, {8, 0, 255}, Activation::none, false};
  const Inputs inputs(random, c);
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
  const Outputs expected(c, inputs, Isa::scalar);
  expect_definition(c, inputs, expected.y, "packed_binary_matmul scalar: largest sums");
  for (Isa isa : paths()) {
    const Outputs found(c, inputs, isa);
    expect_same(found.y, expected.y, "packed_binary_matmul: largest sums");
  }
}

// Shifts that put every GELU within some 1e-5 of a tie between two codes.
void compare_near_ties(Random& random, CodeType output) {
  const Case c = {1, 1, 1, 1, 768, {1, -1, 1}, output, Activation::gelu, true};
  const Inputs inputs(random, c);
  for (int64_t n = 0; n < c.n; ++n) {
    const float sum = inputs.codes[0] == inputs.rows[n * 8] ? 1.0f : -1.0f;
    inputs.scale[n] = random.uniform(0, 3);
    const volatile float product = sum * inputs.scale[n];
    const float y = gelu(product + inputs.bias[n]);
    const float tie = output.width == 1 ? 0.5f * static_cast<float>(output.low + output.high) : 0.5f;
    inputs.shift[n] = tie / inputs.inverse_step[n] - y + random.uniform(-2e-5f, 2e-5f);
  }
  const Outputs expected(c, inputs, Isa::scalar);
  for (Isa isa : paths()) {
    const Outputs found(c, inputs, isa);
    char text[256];
    c.describe(isa, text);
    expect_same(found.codes, expected.codes, text);
  }
}

}  // namespace

void test_packed_binary_matmul(uint64_t seed) {
  Random random(seed);
  for (CodeType output : kCodeTypes) compare_near_ties(random, output);
  for (CodeType input : kCodeTypes) {
    compare_largest(input);
    for (int64_t k : kSizes) {
      for (int repeat = 0; repeat < 3; ++repeat) {
        Case c;
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
    // Enough work for a split over output channels.
    compare(random, {1, 1, 16, 768, 768, input, random.pick(kCodeTypes), Activation::gelu, true});
  }
}

}  // namespace bebert
