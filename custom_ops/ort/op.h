// SPDX-License-Identifier: Apache-2.0
// Turns a kernel into the OrtCustomOp that onnxruntime asks for. A kernel is a trivially copyable struct with
//
//   static constexpr const char* kName;                  // "bebert::Quantize"
//   using Inputs = Types<ORT_FLOAT, ...>;                // and Outputs
//   Node node;                                           // filled in before create, like isa
//   Isa isa;
//   OrtStatus* create(const OrtKernelInfo* info);        // attributes, constant weights
//   OrtStatus* compute(OrtKernelContext* context) const;
//   void destroy();                                      // also after a create that failed
#ifndef BEBERT_EDGE_ORT_OP_H_
#define BEBERT_EDGE_ORT_OP_H_

#include "../kernels/cpu.h"
#include "api.h"

namespace bebert {

// An op with the CPU path that its kernels take.
struct Op : OrtCustomOp {
  Isa isa;
};

constexpr size_t kDomainLength = sizeof("bebert::") - 1;

template <OrtElementType... types>
struct Types {
  static constexpr size_t kCount = sizeof...(types);
  static size_t count(const OrtCustomOp*) { return kCount; }
  static OrtElementType at(const OrtCustomOp*, size_t index) {
    constexpr OrtElementType kTypes[] = {types..., OrtElementType(0)};
    return kTypes[index];
  }
};

template <class Kernel>
OrtStatus* create_kernel(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** created) {
  Node node = {api, Kernel::kName, {}};
  static_assert(Kernel::Inputs::kCount <= Node::kMaxInputs, "a Node notes no more constants");
  BEBERT_TRY(node.find_constants(info, Kernel::Inputs::kCount));
  void* memory = node.allocate(sizeof(Kernel));
  if (!memory) return node.out_of_memory();
  Kernel* kernel = static_cast<Kernel*>(memory);
  *kernel = Kernel{};
  kernel->node = node;
  kernel->isa = static_cast<const Op*>(op)->isa;
  if (OrtStatus* status = kernel->create(info)) {
    kernel->destroy();
    node.release(memory);
    return status;
  }
  *created = memory;
  return nullptr;
}

template <class Kernel>
void destroy_kernel(void* memory) {
  Kernel* kernel = static_cast<Kernel*>(memory);
  const Node node = kernel->node;
  kernel->destroy();
  node.release(memory);
}

template <class Kernel>
constexpr Op make_op(Isa isa) {
  Op op = {};
  op.version = kOrtApiVersion;
  op.GetName = [](const OrtCustomOp*) -> const char* { return Kernel::kName + kDomainLength; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return "CPUExecutionProvider"; };
  op.GetInputType = Kernel::Inputs::at;
  op.GetInputTypeCount = Kernel::Inputs::count;
  op.GetOutputType = Kernel::Outputs::at;
  op.GetOutputTypeCount = Kernel::Outputs::count;
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) -> int32_t { return 0; };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) -> int32_t { return 0; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) -> int32_t { return 0; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) -> int32_t { return 1; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) -> int32_t { return 1; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) -> int32_t { return 1; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) -> int32_t { return 1; };
  op.CreateKernelV2 = create_kernel<Kernel>;
  op.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) -> OrtStatus* {
    return static_cast<const Kernel*>(kernel)->compute(context);
  };
  op.KernelDestroy = destroy_kernel<Kernel>;
  op.GetStartVersion = [](const OrtCustomOp*) -> int32_t { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) -> int32_t { return INT32_MAX; };
  op.isa = isa;
  return op;
}

// The op for one CPU path, alive as long as the library is loaded.
template <class Kernel>
const OrtCustomOp* op_for(Isa isa) {
  static constexpr Op kOps[] = {make_op<Kernel>(Isa(0)), make_op<Kernel>(Isa(1)), make_op<Kernel>(Isa(2)),
                                make_op<Kernel>(Isa(3)), make_op<Kernel>(Isa(4))};
  static_assert(sizeof(kOps) == kIsaCount * sizeof(Op), "one for each path");
  return &kOps[static_cast<int>(isa)];
}

}  // namespace bebert

#endif  // BEBERT_EDGE_ORT_OP_H_
