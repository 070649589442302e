// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "op.h"
#include "ops.h"
#include "paths.h"
#include "tensors.h"

namespace bebert {

namespace {

struct CpuPathKernel {
  static constexpr const char* kName = "bebert::CpuPath";
  using Inputs = Types<>;
  using Outputs = Types<ORT_UINT8>;

  Node node;
  Isa isa;

  OrtStatus* create(const OrtKernelInfo*) { return nullptr; }

  OrtStatus* compute(OrtKernelContext* context) const {
    Text text;
    text << name(isa) << ";";
    list_available(text, detect(), ",");
    text << ";" << BEBERT_EDGE_VERSION;
    uint8_t* y = nullptr;
    BEBERT_TRY((Call{node, context}.output(0, {static_cast<int64_t>(text.length())}, &y)));
    memcpy(y, text.characters(), text.length());
    return nullptr;
  }

  void destroy() {}
};

}  // namespace

const OrtCustomOp* cpu_path_op(Isa isa) { return op_for<CpuPathKernel>(isa); }

}  // namespace bebert
