// SPDX-License-Identifier: Apache-2.0
// docs/ops.md lets the binary64 sums of a row be taken in any order. So each path, scalar too, is held to the
// definition: a row must be what some mean and rstd give that such an order can have, and its codes exactly those of
// its y.
#include <algorithm>
#include <limits>

#include "../../custom_ops/kernels/arithmetic.h"
#include "fuzz.h"
#include "rows_case.h"

namespace bebert {

namespace {

// All floats between two numbers, if they are few.
struct Candidates {
  static constexpr int kMost = 8;
  float low, high, each[kMost];
  int count = 0;

  Candidates(double low_, double high_) : low(static_cast<float>(low_)), high(static_cast<float>(high_)) {
    for (float value = low; value <= high; value = std::nextafter(value, std::numeric_limits<float>::infinity())) {
      if (count == kMost) {
        count = 0;
        return;
      }
      each[count++] = value;
    }
  }
};

// One row of one member.
struct Row {
  std::vector<float> v;
  const float *gamma, *beta;
  const float* y;  // found

  float normalized(size_t c, float mean, float rstd) const {
    const volatile float difference = v[c] - mean;
    const volatile float ratio = difference * rstd;
    const volatile float product = ratio * gamma[c];
    return product + beta[c];
  }

  bool is(float mean, float rstd) const {
    for (size_t c = 0; c < v.size(); ++c) {
      if (y[c] != normalized(c, mean, rstd)) return false;
    }
    return true;
  }

  // Rounding keeps order, so that the extremes lie at the corners.
  bool is_between(const Candidates& mean, const Candidates& rstd) const {
    for (size_t c = 0; c < v.size(); ++c) {
      const float corners[] = {normalized(c, mean.low, rstd.low), normalized(c, mean.low, rstd.high),
                               normalized(c, mean.high, rstd.low), normalized(c, mean.high, rstd.high)};
      if (!(y[c] >= *std::min_element(corners, corners + 4) && y[c] <= *std::max_element(corners, corners + 4))) {
        return false;
      }
    }
    return true;
  }

  bool is_as_defined(float epsilon) const {
    long double sum = 0, magnitude = 0, squares = 0;
    for (float value : v) {
      const long double wide = value;
      sum += wide;
      magnitude += std::abs(wide);
      squares += wide * wide;
    }
    const long double count = static_cast<long double>(v.size());
    // A sum of n numbers has at most n roundings of 2^-53 of the sum of magnitudes each, a few more follow, and where
    // long double is binary64 as many here.
    const long double error = (count + 8) * std::numeric_limits<double>::epsilon();
    const long double mean = sum / count, mean_error = error * magnitude / count;
    const long double variance = squares / count - mean * mean;
    const long double variance_error = error * (squares / count + mean * mean) + 2 * std::abs(mean) * mean_error;
    const auto rstd = [&](long double of) { return 1 / std::sqrt(std::max(of, 0.0L) + epsilon); };
    constexpr long double kRelative = 1e-15L;  // of the root and the quotient
    const Candidates means(static_cast<double>(mean - mean_error), static_cast<double>(mean + mean_error));
    const Candidates rstds(static_cast<double>(rstd(variance + variance_error) * (1 - kRelative)),
                           static_cast<double>(rstd(variance - variance_error) * (1 + kRelative)));
    if (means.count == 0 || rstds.count == 0) return is_between(means, rstds);
    for (int m = 0; m < means.count; ++m) {
      for (int r = 0; r < rstds.count; ++r) {
        if (is(means.each[m], rstds.each[r])) return true;
      }
    }
    return false;
  }
};

void expect_defined(const RowsCase& c, const AddLayerNormQuantizeInputs& in, const AddLayerNormQuantizeOutputs& out,
                    const std::string& what) {
  std::vector<uint8_t> codes(static_cast<size_t>(c.row_bytes()));
  Row row;
  row.v.resize(static_cast<size_t>(c.channels));
  for (int64_t member = 0; member < c.members; ++member) {
    const int64_t x_member = c.x_members == 1 ? 0 : member, residual_member = c.residual_members == 1 ? 0 : member;
    row.gamma = in.gamma.data() + member * c.channels;
    row.beta = in.beta.data() + member * c.channels;
    const Quantizer quantizer = {in.shift.data() + member * c.channels, in.inverse_step.data() + member * c.channels,
                                 c.code};
    for (int64_t t = 0; t < c.tokens; ++t) {
      for (int64_t i = 0; i < c.channels; ++i) {
        row.v[static_cast<size_t>(i)] = in.x[(x_member * c.tokens + t) * c.channels + i] +
                                        in.residual[(residual_member * c.tokens + t) * c.channels + i];
      }
      const int64_t token = member * c.tokens + t;
      row.y = out.y.data() + token * c.channels;
      expect(row.is_as_defined(c.epsilon), what + format(": row %d of y", static_cast<int>(token)));
      quantize_row(row.y, c.channels, quantizer, codes.data());
      expect(memcmp(codes.data(), out.codes.data() + token * c.row_bytes(), codes.size()) == 0,
             what + format(": codes of row %d", static_cast<int>(token)));
    }
  }
}

void vary(Random& random, const RowsCase& c, const AddLayerNormQuantizeInputs& inputs) {
  for (const Array<float>* floats :
       {&inputs.x, &inputs.residual, &inputs.gamma, &inputs.beta, &inputs.shift, &inputs.inverse_step}) {
    vary_floats(random, *floats);
  }
  if (random.one_in(8)) {  // means far larger than deviations
    for (int64_t i = 0; i < inputs.x.size(); ++i) inputs.x[i] = 1000.0f + 0.01f * inputs.x[i];
  }
  if (random.one_in(3)) {
    const AddLayerNormQuantizeOutputs out(c);
    TestHost host;
    run(c, inputs, Isa::scalar, out, host);
    tie_nearly(random, c.code, c.channels, out.y, inputs.shift, inputs.inverse_step);
  }
}

}  // namespace

void fuzz_add_layer_norm_quantize(Fuzz& fuzz) {
  Random& random = fuzz.random;
  int64_t members = 1 + random.below(3), tokens = draw_size(random, 100), channels = draw_size(random, 3000);
  limit_product(random.one_in(16) ? 200'000 : 20'000, {&tokens, &channels});
  if (random.one_in(50)) tokens = 0;
  RowsCase c(random, random.pick(kCodeTypes), members, tokens, channels);
  c.epsilon = random.pick({1e-12f, 1e-12f, 1e-5f, 1.0f});
  const AddLayerNormQuantizeInputs inputs(random, c);
  vary(random, c, inputs);
  TestHost host;
  std::vector<Isa> paths = fuzz.paths;
  paths.push_back(Isa::scalar);
  for (Isa isa : paths) {
    fuzz.announce(isa);
    const AddLayerNormQuantizeOutputs found(c, fuzz.initial);
    fuzz.run(host, [&] { run(c, inputs, isa, found, host); });
    expect_defined(c, inputs, found, c.describe("add_layer_norm_quantize", isa));
  }
}

}  // namespace bebert
