// SPDX-License-Identifier: Apache-2.0
// Levels by thresholds of exact sums, against the float arithmetic of scalar.
#include "../../custom_ops/kernels/arithmetic.h"
#include "packed_binary_matmul_case.h"
#include "tests.h"

namespace bebert {

namespace {

constexpr CodeType kOutputs[] = {{8, -1, 1}, {8, -2, 1}, {8, 0, 3}, {8, -8, 7}, {8, 0, 15}};

// What parameters are like; all but `ordinary` ones meet sums from one end to the other.
enum class Kind { ordinary, even_sums, ties, dips, coarse, noise, wild, signs };
constexpr Kind kKinds[] = {Kind::ordinary, Kind::even_sums, Kind::ties, Kind::dips,
                           Kind::coarse,   Kind::noise,     Kind::wild, Kind::signs};

// Where GELU is least.
constexpr float kTurn = -0.7517916f;

void set_parameters(Random& random, Kind kind, const MatMulCase& c, const MatMulInputs& inputs) {
  const float unit = 1.0f / (largest_value(c.input) * std::sqrt(static_cast<float>(c.k)));
  for (int64_t i = 0; i < inputs.scale.size(); ++i) {
    float &scale = inputs.scale[i], &bias = inputs.bias[i], &shift = inputs.shift[i];
    float& inverse_step = inputs.inverse_step[i];
    switch (kind) {
      case Kind::ordinary:
      case Kind::even_sums:
        scale = random.uniform(0.5f, 2.0f) * unit;
        break;
      case Kind::ties:  // on sums exactly
        scale = random.pick({0.125f, 0.25f, 0.5f, 1.0f});
        bias = 0.5f * static_cast<float>(random.below(9) - 4);
        shift = 0.25f * static_cast<float>(random.below(9) - 4);
        inverse_step = random.pick({0.5f, 1.0f, 2.0f});
        break;
      case Kind::dips:  // ties of each level above the least, on both sides of the turn; up to four of them
        scale = random.uniform(0.5f, 2.0f) * unit;
        bias = random.uniform(-1.5f, 0.0f);
        inverse_step = random.uniform(2.0f, 20.0f);
        shift = (static_cast<float>(c.output.low + random.below(c.output.high - c.output.low)) + 0.5f) / inverse_step +
                random.uniform(-0.01f, 0.17f);
        break;
      case Kind::coarse:  // all at one level or the other; or hardly moving, at a tie
        scale = random.pick({1e3f, 1e30f, 1e-30f, 1e-7f});
        bias = random.pick({0.0f, kTurn, -6.0f, 1.0f});
        shift = random.one_in(2) ? 0.5f - gelu(bias) : random.pick({-1e3f, 1e3f, 1e30f, -1e30f});
        inverse_step = random.pick({1.0f, 1e-30f, 1e6f, 1e30f});
        break;
      case Kind::noise:  // ties among the rounding errors of GELU where it is flat
        scale = 1e-7f;
        bias = kTurn + random.uniform(-1e-5f, 1e-5f);
        inverse_step = 1e4f;
        shift = 0.5f / inverse_step - gelu(bias);
        break;
      case Kind::signs:  // of what GELU gives: 0 where y is 0, and where GELU saturates
        scale = random.uniform(0.5f, 2.0f) * unit;
        bias = random.one_in(3) ? scale * static_cast<float>(random.below(21) - 10) : random.uniform(-6.0f, 6.0f);
        shift = 0;
        inverse_step = 18446744073709551616.0f;
        break;
      case Kind::wild:
        if (random.one_in(60)) scale = random.pick({0.0f, -scale, -0.0f});
        if (random.one_in(60)) inverse_step = random.pick({0.0f, -inverse_step, 1e-38f});
        break;
    }
  }
}

// Every sum that can occur for weights of one sign, or as many evenly spaced ones as there are tokens.
void set_codes(const MatMulCase& c, const MatMulInputs& inputs) {
  const int64_t row_bytes = code_row_bytes(c.input, c.k);
  const int64_t range = c.input.width == 1 ? 1 : c.input.high - c.input.low, most = c.k * range;
  memset(inputs.codes.data(), 0, static_cast<size_t>(inputs.codes.size()));
  for (int64_t t = 0; t < c.tokens; ++t) {
    uint8_t* row = inputs.codes.data() + t * row_bytes;
    int64_t left = c.tokens > most ? t : most * t / (c.tokens - 1);
    for (int64_t i = 0; i < c.k && left > 0; ++i) {
      const int64_t level = left < range ? left : range;
      left -= level;
      row[i / (c.input.width == 8 ? 1 : 8)] =
          static_cast<uint8_t>(c.input.width == 8 ? level : row[i / 8] | level << i % 8);
    }
  }
}

// How many channels were decided by sums, of how many.
struct Tally {
  int64_t found = 0, channels = 0;
};

void compare(Random& random, const MatMulCase& c, Kind kind, Tally* tally) {
  const MatMulInputs inputs(random, c);
  set_parameters(random, kind, c, inputs);
  if (kind != Kind::ordinary) {
    set_codes(c, inputs);
    // All weights of a channel are alike: 1 in every other.
    const int64_t row_bytes = packed_row_bytes(c.k);
    memset(inputs.rows.data(), 0, static_cast<size_t>(inputs.rows.size()));
    for (int64_t r = 0; r < c.members * c.n; r += 2) {
      for (int64_t i = 0; i < c.k; ++i) {
        uint8_t& byte = inputs.rows[r * row_bytes + i / 8];
        byte = static_cast<uint8_t>(byte | 1 << i % 8);
      }
    }
  }
  const MatMulOutputs expected(c);
  run(c, inputs, Isa::scalar, expected);
  for (Isa isa : paths()) {
    TestHost host;
    const MatMul product(c, inputs, isa, host);
    PackedBinaryMatMulArgs args = product.arguments();
    const Array<uint8_t> levels(
        static_cast<int64_t>(packed_binary_matmul_level_bytes(product.plan, c.output, c.activation)), 64);
    if (levels.size() == 0) continue;
    tally->found += packed_binary_matmul_find_levels(product.plan, args, levels.data());
    tally->channels += c.members * c.n;
    args.levels = levels.data();
    const MatMulOutputs found(c);
    product.run(args, found, host);
    expect_same(found.codes, expected.codes, c.describe(isa) + format(", levels, kind %d", static_cast<int>(kind)));
  }
}

void expect_none(Isa isa) {
  const auto bytes = [&](int64_t k, CodeType input, CodeType output) {
    return packed_binary_matmul_level_bytes({2, 100, k, input, isa}, output, Activation::gelu);
  };
  expect(bytes(768, {8, -8, 7}, {8, 0, 15}) > 0, "levels: of four bits");
  expect(bytes(4096, {8, -8, 7}, {8, 0, 15}) == 0, "levels: sums beyond 16 bits");
  expect(bytes(768, {8, -8, 7}, {8, 0, 255}) == 0, "levels: of eight bits");
  expect(bytes(768, {8, -8, 7}, {1, 0, 1}) == 0, "levels: bits");
}

}  // namespace

void test_packed_binary_matmul_levels(uint64_t seed) {
  Random random(seed);
  for (Isa isa : paths()) {
    if (isa == Isa::x86_avx512) expect_none(isa);
  }
  constexpr CodeType kInputs[] = {{1, -1, 1}, {1, 0, 1}, {8, -1, 1}, {8, -8, 7}, {8, 0, 15}, {8, -128, 127}};
  for (Activation activation : kActivations) {
    Tally tallies[8];
    for (Kind kind : kKinds) {
      for (CodeType output : kOutputs) {
        for (int64_t n : {1, 31, 32, 33, 63, 64, 65, 100}) {
          const CodeType input = random.pick(kInputs);
          const int64_t k = input.low == -128 ? 1 + random.below(200) : 1 + random.below(900), members = 2;
          const int64_t tokens = kind == Kind::even_sums ? 700 : 2 + random.below(120);
          const MatMulCase c = {members, 1, tokens, k, n, input, output, activation, true};
          compare(random, c, kind, &tallies[static_cast<int>(kind)]);
        }
      }
    }
    const auto share = [&](Kind kind) {
      const Tally& tally = tallies[static_cast<int>(kind)];
      return static_cast<double>(tally.found) / static_cast<double>(tally.channels);
    };
    if (tallies[0].channels == 0) continue;
    expect(share(Kind::ordinary) > 0.8, "levels: most ordinary channels are decided by sums");
    if (activation != Activation::gelu) continue;
    expect(share(Kind::dips) > 0, "levels: on both sides of the turn");
    expect(share(Kind::signs) > 0, "levels: signs");
  }
}

}  // namespace bebert
