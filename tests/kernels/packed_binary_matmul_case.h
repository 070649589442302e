// SPDX-License-Identifier: Apache-2.0
// One call of the packed binary matrix product, for tests that compare CPU paths.
#ifndef BEBERT_EDGE_TESTS_KERNELS_PACKED_BINARY_MATMUL_CASE_H_
#define BEBERT_EDGE_TESTS_KERNELS_PACKED_BINARY_MATMUL_CASE_H_

#include "../../custom_ops/kernels/packed_binary_matmul/packed_binary_matmul.h"
#include "support.h"
#include "test_host.h"

namespace bebert {

constexpr Activation kActivations[] = {Activation::none, Activation::relu, Activation::gelu};

struct MatMulCase {
  int64_t members, code_members, tokens, k, n;
  CodeType input, output;
  Activation activation;
  bool to_codes;

  std::string describe(Isa isa) const {
    return format("packed_binary_matmul %s: members %d, code members %d, tokens %d, k %d, n %d, input %s, ", name(isa),
                  static_cast<int>(members), static_cast<int>(code_members), static_cast<int>(tokens),
                  static_cast<int>(k), static_cast<int>(n), text(input).c_str()) +
           (to_codes ? format("output %s, activation %d", text(output).c_str(), static_cast<int>(activation))
                     : "to floats");
  }
};

struct MatMulInputs {
  Array<uint8_t> codes, rows;
  Array<float> scale, bias, shift, inverse_step;

  // Values of unit size, which take all codes.
  MatMulInputs(Random& random, const MatMulCase& c)
      : codes(c.code_members * c.tokens * code_row_bytes(c.input, c.k)),
        rows(c.members * c.n * packed_row_bytes(c.k)),
        scale(c.members * c.n),
        bias(c.members * c.n),
        shift(c.members * c.n),
        inverse_step(c.members * c.n) {
    fill_codes(random, c.input, c.code_members * c.tokens, c.k, codes.data());
    fill_codes(random, {1, -1, 1}, c.members * c.n, c.k, rows.data());
    fill_floats(random, 0, 2.0f / (largest_value(c.input) * std::sqrt(static_cast<float>(c.k))), scale);
    fill_floats(random, -1, 1, bias);
    fill_quantizer(random, c.output, shift, inverse_step);
  }
};

struct MatMulOutputs {
  Array<float> y;
  Array<uint8_t> codes;

  explicit MatMulOutputs(const MatMulCase& c, uint8_t initial = 0xa5)
      : y(c.to_codes ? 0 : c.members * c.tokens * c.n, alignof(float), initial),
        codes(c.to_codes ? c.members * c.tokens * code_row_bytes(c.output, c.n) : 0, 1, initial) {}
};

// The weights of a case as one path has them, and its product.
struct MatMul {
  const MatMulCase& c;
  const MatMulInputs& inputs;
  const PackedBinaryMatMulPlan plan;
  const Array<uint8_t> weights;

  MatMul(const MatMulCase& c_, const MatMulInputs& inputs_, Isa isa, TestHost& host)
      : c(c_),
        inputs(inputs_),
        plan{c.members, c.n, c.k, c.input, isa},
        weights(static_cast<int64_t>(packed_binary_matmul_interleaved_bytes(plan)), 64) {
    packed_binary_matmul_interleave(plan, inputs.rows.data(), weights.data(), host.host());
  }

  // Without outputs.
  PackedBinaryMatMulArgs arguments() const {
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
    }
    return args;
  }

  void run(PackedBinaryMatMulArgs args, const MatMulOutputs& out, TestHost& host) const {
    if (c.to_codes) {
      args.codes_out = out.codes.data();
    } else {
      args.y = out.y.data();
    }
    const bool enough = packed_binary_matmul_run(plan, args, host.host());
    expect(enough == !host.refused(), "packed_binary_matmul: says whether there was enough memory");
    expect(host.all_released(), "packed_binary_matmul: releases what it allocates");
  }
};

inline void run(const MatMulCase& c, const MatMulInputs& inputs, Isa isa, const MatMulOutputs& out) {
  TestHost host;
  const MatMul product(c, inputs, isa, host);
  product.run(product.arguments(), out, host);
}

}  // namespace bebert

#endif  // BEBERT_EDGE_TESTS_KERNELS_PACKED_BINARY_MATMUL_CASE_H_
