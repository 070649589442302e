// SPDX-License-Identifier: Apache-2.0
// The ops that work row by row: AddLayerNormQuantize, Quantize, PackedBinaryEmbedding.
#include "../../custom_ops/kernels/add_layer_norm_quantize/add_layer_norm_quantize.h"
#include "../../custom_ops/kernels/packed_binary_embedding/packed_binary_embedding.h"
#include "../../custom_ops/kernels/quantize/quantize.h"
#include "support.h"

namespace bebert {

namespace {

constexpr int64_t kChannels[] = {1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 767, 768, 1000};
constexpr int64_t kTokens[] = {0, 1, 2, 17, 70};

void compare_add_layer_norm_quantize(Random& random, CodeType code, int64_t members, int64_t tokens, int64_t channels) {
  const int64_t x_members = random.below(2) ? 1 : members, residual_members = random.below(2) ? 1 : members;
  const Array<float> x(x_members * tokens * channels), residual(residual_members * tokens * channels);
  const Array<float> gamma(members * channels), beta(members * channels);
  const Array<float> shift(members * channels), inverse_step(members * channels);
  fill_floats(random, -2, 2, x);
  fill_floats(random, -2, 2, residual);
  fill_floats(random, 0.5f, 1.5f, gamma);
  fill_floats(random, -0.5f, 0.5f, beta);
  fill_quantizer(random, code, shift, inverse_step);
  struct Outputs {
    Array<float> y;
    Array<uint8_t> codes;
  };
  const auto run = [&](Isa isa, const Outputs& out) {
    TestHost host;
    const AddLayerNormQuantizeArguments arguments = {
        x.data(),     residual.data(),  gamma.data(), beta.data(),      shift.data(), inverse_step.data(),
        out.y.data(), out.codes.data(), x_members,    residual_members, members,      tokens,
        channels,     1e-12f,           code};
    add_layer_norm_quantize(isa, arguments, host.host());
  };
  const int64_t code_bytes = members * tokens * code_row_bytes(code, channels);
  const Outputs expected = {Array<float>(members * tokens * channels), Array<uint8_t>(code_bytes)};
  run(Isa::scalar, expected);
  for (Isa isa : paths()) {
    const Outputs found = {Array<float>(members * tokens * channels), Array<uint8_t>(code_bytes)};
    run(isa, found);
    char text[128];
    std::snprintf(text, sizeof(text), "add_layer_norm_quantize %s: tokens %d, channels %d, code [%d, %d, %d]",
                  name(isa), static_cast<int>(tokens), static_cast<int>(channels), code.width, code.low, code.high);
    expect_same(found.y, expected.y, text);
    expect_same(found.codes, expected.codes, text);
  }
}

void compare_quantize(Random& random, CodeType code, int64_t members, int64_t tokens, int64_t channels) {
  const int64_t x_members = random.below(2) ? 1 : members;
  const Array<float> x(x_members * tokens * channels), shift(members * channels), inverse_step(members * channels);
  fill_floats(random, -1.5f, 1.5f, x);
  fill_quantizer(random, code, shift, inverse_step);
  const auto run = [&](Isa isa, const Array<uint8_t>& codes) {
    TestHost host;
    quantize(isa,
             {x.data(), shift.data(), inverse_step.data(), codes.data(), x_members, members, tokens, channels, code},
             host.host());
  };
  const int64_t bytes = members * tokens * code_row_bytes(code, channels);
  const Array<uint8_t> expected(bytes);
  run(Isa::scalar, expected);
  for (Isa isa : paths()) {
    const Array<uint8_t> found(bytes);
    run(isa, found);
    char text[128];
    std::snprintf(text, sizeof(text), "quantize %s: tokens %d, channels %d, code [%d, %d, %d]", name(isa),
                  static_cast<int>(tokens), static_cast<int>(channels), code.width, code.low, code.high);
    expect_same(found, expected, text);
  }
}

void compare_embedding(Random& random, int64_t members, int64_t tokens, int64_t channels) {
  constexpr int64_t kRows = 11;
  const Array<int64_t> ids(tokens);
  for (int64_t t = 0; t < tokens; ++t) ids[t] = random.below(kRows);
  const Array<uint8_t> weight(members * kRows * packed_row_bytes(channels));
  const Array<float> scale(members * kRows);
  fill_codes(random, {1, -1, 1}, members * kRows, channels, weight.data());
  fill_floats(random, 0, 1, scale);
  const auto run = [&](Isa isa, const Array<float>& y) {
    TestHost host;
    packed_binary_embedding(isa, {ids.data(), weight.data(), scale.data(), y.data(), members, kRows, tokens, channels},
                            host.host());
  };
  const Array<float> expected(members * tokens * channels);
  run(Isa::scalar, expected);
  for (Isa isa : paths()) {
    const Array<float> found(members * tokens * channels);
    run(isa, found);
    expect_same(found, expected, "packed_binary_embedding");
  }
}

}  // namespace

void test_rows(uint64_t seed) {
  Random random(seed);
  for (int64_t channels : kChannels) {
    for (int64_t tokens : kTokens) {
      const int64_t members = 1 + random.below(3);
      const CodeType code = random.pick(kCodeTypes);
      compare_add_layer_norm_quantize(random, code, members, tokens, channels);
      compare_quantize(random, random.pick(kCodeTypes), members, tokens, channels);
      compare_embedding(random, members, tokens, channels);
    }
  }
}

}  // namespace bebert
