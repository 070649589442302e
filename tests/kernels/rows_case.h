// SPDX-License-Identifier: Apache-2.0
// One call of each op that works row by row, for tests that compare CPU paths.
#ifndef BEBERT_EDGE_TESTS_KERNELS_ROWS_CASE_H_
#define BEBERT_EDGE_TESTS_KERNELS_ROWS_CASE_H_

#include "../../custom_ops/kernels/add_layer_norm_quantize/add_layer_norm_quantize.h"
#include "../../custom_ops/kernels/packed_binary_embedding/packed_binary_embedding.h"
#include "../../custom_ops/kernels/quantize/quantize.h"
#include "support.h"
#include "test_host.h"

namespace bebert {

// Of Quantize and AddLayerNormQuantize.
struct RowsCase {
  CodeType code;
  Activation activation;  // of Quantize
  int64_t x_members, residual_members, members, tokens, channels;
  float epsilon = 1e-12f;

  RowsCase(Random& random, CodeType code_, int64_t members_, int64_t tokens_, int64_t channels_)
      : code(code_),
        activation(random.pick({Activation::none, Activation::relu, Activation::gelu})),
        x_members(random.one_in(2) ? 1 : members_),
        residual_members(random.one_in(2) ? 1 : members_),
        members(members_),
        tokens(tokens_),
        channels(channels_) {}

  int64_t row_bytes() const { return code_row_bytes(code, channels); }

  std::string describe(const char* op, Isa isa) const {
    return format("%s %s: members %d (x %d, residual %d), tokens %d, channels %d, code %s, activation %d", op,
                  name(isa), static_cast<int>(members), static_cast<int>(x_members), static_cast<int>(residual_members),
                  static_cast<int>(tokens), static_cast<int>(channels), text(code).c_str(),
                  static_cast<int>(activation));
  }
};

struct AddLayerNormQuantizeInputs {
  Array<float> x, residual, gamma, beta, shift, inverse_step;

  AddLayerNormQuantizeInputs(Random& random, const RowsCase& c)
      : x(c.x_members * c.tokens * c.channels),
        residual(c.residual_members * c.tokens * c.channels),
        gamma(c.members * c.channels),
        beta(c.members * c.channels),
        shift(c.members * c.channels),
        inverse_step(c.members * c.channels) {
    fill_floats(random, -2, 2, x);
    fill_floats(random, -2, 2, residual);
    fill_floats(random, 0.5f, 1.5f, gamma);
    fill_floats(random, -0.5f, 0.5f, beta);
    fill_quantizer(random, c.code, shift, inverse_step);
  }
};

struct AddLayerNormQuantizeOutputs {
  Array<float> y;
  Array<uint8_t> codes;

  explicit AddLayerNormQuantizeOutputs(const RowsCase& c, uint8_t initial = 0xa5)
      : y(c.members * c.tokens * c.channels, alignof(float), initial),
        codes(c.members * c.tokens * c.row_bytes(), 1, initial) {}
};

inline void run(const RowsCase& c, const AddLayerNormQuantizeInputs& in, Isa isa,
                const AddLayerNormQuantizeOutputs& out, TestHost& host) {
  const AddLayerNormQuantizeArguments arguments = {
      in.x.data(),  in.residual.data(), in.gamma.data(), in.beta.data(),     in.shift.data(), in.inverse_step.data(),
      out.y.data(), out.codes.data(),   c.x_members,     c.residual_members, c.members,       c.tokens,
      c.channels,   c.epsilon,          c.code};
  add_layer_norm_quantize(isa, arguments, host.host());
}

struct QuantizeInputs {
  Array<float> x, shift, inverse_step;

  QuantizeInputs(Random& random, const RowsCase& c)
      : x(c.x_members * c.tokens * c.channels), shift(c.members * c.channels), inverse_step(c.members * c.channels) {
    fill_floats(random, -1.5f, 1.5f, x);
    fill_quantizer(random, c.code, shift, inverse_step);
  }
};

inline void run(const RowsCase& c, const QuantizeInputs& in, Isa isa, const Array<uint8_t>& codes, TestHost& host) {
  const QuantizeArguments arguments = {
      in.x.data(), in.shift.data(), in.inverse_step.data(), codes.data(), c.x_members, c.members, c.tokens, c.channels,
      c.code,      c.activation};
  quantize(isa, arguments, host.host());
}

struct EmbeddingCase {
  int64_t members, rows, tokens, channels;

  std::string describe(Isa isa) const {
    return format("packed_binary_embedding %s: members %d, rows %d, tokens %d, channels %d", name(isa),
                  static_cast<int>(members), static_cast<int>(rows), static_cast<int>(tokens),
                  static_cast<int>(channels));
  }
};

struct EmbeddingInputs {
  Array<int64_t> ids;
  Array<uint8_t> weight;
  Array<float> scale;

  EmbeddingInputs(Random& random, const EmbeddingCase& c)
      : ids(c.tokens), weight(c.members * c.rows * packed_row_bytes(c.channels)), scale(c.members * c.rows) {
    for (int64_t t = 0; t < c.tokens; ++t) ids[t] = random.below(c.rows);
    fill_codes(random, {1, -1, 1}, c.members * c.rows, c.channels, weight.data());
    fill_floats(random, 0, 1, scale);
  }
};

inline void run(const EmbeddingCase& c, const EmbeddingInputs& in, Isa isa, const Array<float>& y, TestHost& host) {
  const PackedBinaryEmbeddingArguments arguments = {in.ids.data(), in.weight.data(), in.scale.data(), y.data(),
                                                    c.members,     c.rows,           c.tokens,        c.channels};
  packed_binary_embedding(isa, arguments, host.host());
}

}  // namespace bebert

#endif  // BEBERT_EDGE_TESTS_KERNELS_ROWS_CASE_H_
