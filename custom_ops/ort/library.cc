// SPDX-License-Identifier: Apache-2.0
// The one symbol that the library exports.
#include "abi.h"
#include "ops.h"
#include "paths.h"
#include "text.h"

#if defined(_WIN32)
#include <stdlib.h>
#define BEBERT_EXPORT extern "C" __declspec(dllexport)
#else
#define BEBERT_EXPORT extern "C" __attribute__((visibility("default")))
#if !defined(__APPLE__)
// Weak: the library loads, and nothing is forced, where the process offers no such function.
extern "C" __attribute__((weak)) char* getenv(const char* name);
#else
#include <stdlib.h>
#endif
#endif

namespace bebert {

namespace {

constexpr const char* kVariable = "BEBERT_EDGE_KERNEL";
// An entry of the session options that notes the live path.
constexpr const char* kRegistered = "bebert_edge.cpu_path";

const char* forced_path() {
#if !defined(_WIN32) && !defined(__APPLE__)
  if (!getenv) return nullptr;
#endif
  return getenv(kVariable);
}

OrtStatus* error(const OrtApi* api, const Text& text) {
  return api->CreateStatus(ORT_INVALID_ARGUMENT, text.characters());
}

// Whether the options already have the domain. Registering twice is harmless; two paths in one session are an error.
OrtStatus* check_registered(const OrtApi* api, const OrtSessionOptions* options, Isa isa, int32_t* registered) {
  if (OrtStatus* status = api->HasSessionConfigEntry(options, kRegistered, registered)) return status;
  if (!*registered) return nullptr;
  char path[32] = {};
  size_t bytes = sizeof(path);
  if (OrtStatus* status = api->GetSessionConfigEntry(options, kRegistered, path, &bytes)) return status;
  if (equal(path, name(isa))) return nullptr;
  return error(api, Text() << "bebert: these session options already have the CPU path " << path << ", and "
                           << kVariable << " now asks for " << name(isa) << "; use new session options");
}

OrtStatus* fill_domain(const OrtApi* api, OrtCustomOpDomain* domain, Isa isa) {
  const OrtCustomOp* ops[] = {
      add_layer_norm_quantize_op(isa),
      binary_attention_op(isa),
      biased_binary_attention_op(isa),
      cpu_path_op(isa),
      gated_quantize_op(isa),
      packed_binary_embedding_op(isa),
      packed_binary_matmul_op(isa),
      packed_binary_matmul_quantize_op(isa),
      quantize_op(isa),
  };
  for (const OrtCustomOp* op : ops) {
    if (OrtStatus* status = api->CustomOpDomain_Add(domain, op)) return status;
  }
  return nullptr;
}

// onnxruntime keeps a pointer to the domain and does not own it, and does not say when the last session is gone: each
// domain, some hundred bytes, lives as long as the process.
OrtStatus* add_domain(const OrtApi* api, OrtSessionOptions* options, Isa isa) {
  OrtCustomOpDomain* domain = nullptr;
  if (OrtStatus* status = api->CreateCustomOpDomain("bebert", &domain)) return status;
  OrtStatus* status = fill_domain(api, domain, isa);
  if (!status) status = api->AddCustomOpDomain(options, domain);
  if (!status) return api->AddSessionConfigEntry(options, kRegistered, name(isa));
  api->ReleaseCustomOpDomain(domain);
  return status;
}

}  // namespace

}  // namespace bebert

BEBERT_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  using namespace bebert;
  const OrtApi* api = base->GetApi(kOrtApiVersion);
  if (!api) {
    // CreateStatus is slot 0 of every version.
    return error(base->GetApi(1),
                 Text() << "bebert: this is onnxruntime " << base->GetVersionString() << ", expected 1.17 or newer");
  }
  Isa isa;
  Text reason;
  if (!choose_path(forced_path(), detect(), &isa, &reason)) {
    return error(api, Text() << "bebert: environment variable " << kVariable << ": " << reason.characters());
  }
  int32_t registered = 0;
  if (OrtStatus* status = check_registered(api, options, isa, &registered)) return status;
  return registered ? nullptr : add_domain(api, options, isa);
}
