// SPDX-License-Identifier: Apache-2.0
#include "../kernels/packed_binary_embedding/packed_binary_embedding.h"
#include "op.h"
#include "ops.h"
#include "tensors.h"

namespace bebert {

namespace {

struct PackedBinaryEmbeddingKernel {
  static constexpr const char* kName = "bebert::PackedBinaryEmbedding";
  using Inputs = Types<ORT_INT64, ORT_UINT8, ORT_FLOAT>;
  using Outputs = Types<ORT_FLOAT>;

  Node node;
  Isa isa;
  int64_t channels;

  OrtStatus* create(const OrtKernelInfo* info) { return Attributes{node, info}.integer("k", 1, kMaxSize, &channels); }

  OrtStatus* compute(OrtKernelContext* context) const {
    const Call call(node, context);
    Dim members{"members"}, rows{"rows", 1}, tokens{"tokens"};
    Dim row_bytes{"bytes of k channels", 0, packed_row_bytes(channels)};
    Tensor ids, weight, scale;
    BEBERT_TRY(call.input(0, "ids", {tokens}, &ids));
    BEBERT_TRY(call.input(1, "weight", {members, rows, row_bytes}, &weight));
    BEBERT_TRY(call.input(2, "scale", {members, rows}, &scale));
    for (int64_t t = 0; t < tokens.size; ++t) {
      const int64_t id = ids.integers()[t];
      if (id >= 0 && id < rows.size) continue;
      return node.error(Text() << "input 0 (ids) has " << id << " at position " << t << ", expected 0 .. "
                               << rows.size - 1);
    }

    PackedBinaryEmbeddingArguments arguments;
    arguments.ids = ids.integers();
    arguments.weight = weight.codes();
    arguments.scale = scale.floats();
    arguments.members = members.size;
    arguments.rows = rows.size;
    arguments.tokens = tokens.size;
    arguments.channels = channels;
    BEBERT_TRY(call.output(0, {members.size, tokens.size, channels}, &arguments.y));
    KernelHost host(node.api, context);
    packed_binary_embedding(isa, arguments, host.host());
    return nullptr;
  }

  void destroy() {}
};

}  // namespace

const OrtCustomOp* packed_binary_embedding_op(Isa isa) { return op_for<PackedBinaryEmbeddingKernel>(isa); }

}  // namespace bebert
