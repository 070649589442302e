// SPDX-License-Identifier: Apache-2.0
// The part of onnxruntime's stable C ABI that the library uses, at API version 17 (onnxruntime 1.17). OrtApi is a table
// of function pointers to which versions only append: a function is its slot. Slots are asserted at the end;
// tests/native compares them with tests/native/ort_abi_slots.json, taken from the official header.
#ifndef BEBERT_EDGE_ORT_ABI_H_
#define BEBERT_EDGE_ORT_ABI_H_

#include <stddef.h>
#include <stdint.h>

constexpr uint32_t kOrtApiVersion = 17;

struct OrtAllocator;
struct OrtCustomOpDomain;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtMemoryInfo;
struct OrtSessionOptions;
struct OrtStatus;  // null means success
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;

// Values of enumerations: OrtErrorCode, ONNXTensorElementDataType, OrtAllocatorType, OrtMemType.
enum OrtErrorCode : int32_t { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum OrtElementType : int32_t { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT64 = 7 };
enum OrtAllocatorType : int32_t { ORT_ARENA_ALLOCATOR = 1 };
enum OrtMemoryType : int32_t { ORT_DEFAULT_MEMORY = 0 };

struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const struct OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  OrtElementType (*GetInputType)(const OrtCustomOp*, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  OrtElementType (*GetOutputType)(const OrtCustomOp*, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void* kernel, OrtKernelContext*);
  void (*KernelDestroy)(void* kernel);
  int32_t (*GetInputCharacteristic)(const OrtCustomOp*, size_t index);   // 0: required
  int32_t (*GetOutputCharacteristic)(const OrtCustomOp*, size_t index);  // 0: required
  int32_t (*GetInputMemoryType)(const OrtCustomOp*, size_t index);       // 0: default
  int32_t (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int32_t (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int32_t (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int32_t (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const struct OrtApi*, const OrtKernelInfo*, void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, void* shape_infer_context);
  int32_t (*GetStartVersion)(const OrtCustomOp*);
  int32_t (*GetEndVersion)(const OrtCustomOp*);
};

struct OrtApi {
  OrtStatus* (*CreateStatus)(OrtErrorCode, const char* message);
  void* unused_1[25];
  OrtStatus* (*CreateCustomOpDomain)(const char* domain, OrtCustomOpDomain**);
  OrtStatus* (*CustomOpDomain_Add)(OrtCustomOpDomain*, const OrtCustomOp*);
  OrtStatus* (*AddCustomOpDomain)(OrtSessionOptions*, OrtCustomOpDomain*);
  void* unused_29[22];
  OrtStatus* (*GetTensorMutableData)(OrtValue*, void** data);
  void* unused_52[9];
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo*, size_t* rank);
  OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo*, int64_t* dimensions, size_t rank);
  void* unused_63[2];
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo**);
  void* unused_66[3];
  OrtStatus* (*CreateCpuMemoryInfo)(OrtAllocatorType, OrtMemoryType, OrtMemoryInfo**);
  void* unused_70[5];
  OrtStatus* (*AllocatorAlloc)(OrtAllocator*, size_t bytes, void** memory);
  OrtStatus* (*AllocatorFree)(OrtAllocator*, void* memory);
  void* unused_77[1];
  OrtStatus* (*GetAllocatorWithDefaultOptions)(OrtAllocator**);
  void* unused_79[6];
  OrtStatus* (*KernelInfoGetAttribute_float)(const OrtKernelInfo*, const char* name, float*);
  OrtStatus* (*KernelInfoGetAttribute_int64)(const OrtKernelInfo*, const char* name, int64_t*);
  void* unused_87[3];
  OrtStatus* (*KernelContext_GetInput)(const OrtKernelContext*, size_t index, const OrtValue**);
  OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext*, size_t index, const int64_t* dimensions, size_t rank,
                                        OrtValue**);
  void* unused_92[1];
  void (*ReleaseStatus)(OrtStatus*);
  void (*ReleaseMemoryInfo)(OrtMemoryInfo*);
  void* unused_95[4];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*);
  void* unused_100[1];
  void (*ReleaseCustomOpDomain)(OrtCustomOpDomain*);
  void* unused_102[28];
  OrtStatus* (*AddSessionConfigEntry)(OrtSessionOptions*, const char* key, const char* value);
  void* unused_131[1];
  void (*ReleaseAllocator)(OrtAllocator*);
  void* unused_133[30];
  OrtStatus* (*KernelInfoGetAttributeArray_int64)(const OrtKernelInfo*, const char* name, int64_t*, size_t* count);
  void* unused_164[73];
  OrtStatus* (*HasSessionConfigEntry)(const OrtSessionOptions*, const char* key, int32_t* has);
  OrtStatus* (*GetSessionConfigEntry)(const OrtSessionOptions*, const char* key, char* value, size_t* bytes);
  void* unused_239[10];
  OrtStatus* (*KernelInfoGetConstantInput_tensor)(const OrtKernelInfo*, size_t index, int32_t* is_constant,
                                                  const OrtValue**);
  void* unused_250[3];
  OrtStatus* (*KernelContext_GetAllocator)(const OrtKernelContext*, const OrtMemoryInfo*, OrtAllocator**);
  void* unused_254[20];
  OrtStatus* (*KernelContext_ParallelFor)(const OrtKernelContext*, void (*task)(void* argument, size_t index),
                                          size_t total, size_t batches, void* argument);
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);  // null where the runtime is older than `version`
  const char* (*GetVersionString)();
};

#define BEBERT_ORT_SLOT(table, function, slot) \
  static_assert(offsetof(table, function) == (slot) * sizeof(void*), #table "::" #function)

BEBERT_ORT_SLOT(OrtApi, CreateStatus, 0);
BEBERT_ORT_SLOT(OrtApi, CreateCustomOpDomain, 26);
BEBERT_ORT_SLOT(OrtApi, CustomOpDomain_Add, 27);
BEBERT_ORT_SLOT(OrtApi, AddCustomOpDomain, 28);
BEBERT_ORT_SLOT(OrtApi, GetTensorMutableData, 51);
BEBERT_ORT_SLOT(OrtApi, GetDimensionsCount, 61);
BEBERT_ORT_SLOT(OrtApi, GetDimensions, 62);
BEBERT_ORT_SLOT(OrtApi, GetTensorTypeAndShape, 65);
BEBERT_ORT_SLOT(OrtApi, CreateCpuMemoryInfo, 69);
BEBERT_ORT_SLOT(OrtApi, AllocatorAlloc, 75);
BEBERT_ORT_SLOT(OrtApi, AllocatorFree, 76);
BEBERT_ORT_SLOT(OrtApi, GetAllocatorWithDefaultOptions, 78);
BEBERT_ORT_SLOT(OrtApi, KernelInfoGetAttribute_float, 85);
BEBERT_ORT_SLOT(OrtApi, KernelInfoGetAttribute_int64, 86);
BEBERT_ORT_SLOT(OrtApi, KernelContext_GetInput, 90);
BEBERT_ORT_SLOT(OrtApi, KernelContext_GetOutput, 91);
BEBERT_ORT_SLOT(OrtApi, ReleaseStatus, 93);
BEBERT_ORT_SLOT(OrtApi, ReleaseMemoryInfo, 94);
BEBERT_ORT_SLOT(OrtApi, ReleaseTensorTypeAndShapeInfo, 99);
BEBERT_ORT_SLOT(OrtApi, ReleaseCustomOpDomain, 101);
BEBERT_ORT_SLOT(OrtApi, AddSessionConfigEntry, 130);
BEBERT_ORT_SLOT(OrtApi, ReleaseAllocator, 132);
BEBERT_ORT_SLOT(OrtApi, KernelInfoGetAttributeArray_int64, 163);
BEBERT_ORT_SLOT(OrtApi, HasSessionConfigEntry, 237);
BEBERT_ORT_SLOT(OrtApi, GetSessionConfigEntry, 238);
BEBERT_ORT_SLOT(OrtApi, KernelInfoGetConstantInput_tensor, 249);
BEBERT_ORT_SLOT(OrtApi, KernelContext_GetAllocator, 253);
BEBERT_ORT_SLOT(OrtApi, KernelContext_ParallelFor, 274);

BEBERT_ORT_SLOT(OrtCustomOp, version, 0);
BEBERT_ORT_SLOT(OrtCustomOp, CreateKernel, 1);
BEBERT_ORT_SLOT(OrtCustomOp, GetName, 2);
BEBERT_ORT_SLOT(OrtCustomOp, GetExecutionProviderType, 3);
BEBERT_ORT_SLOT(OrtCustomOp, GetInputType, 4);
BEBERT_ORT_SLOT(OrtCustomOp, GetInputTypeCount, 5);
BEBERT_ORT_SLOT(OrtCustomOp, GetOutputType, 6);
BEBERT_ORT_SLOT(OrtCustomOp, GetOutputTypeCount, 7);
BEBERT_ORT_SLOT(OrtCustomOp, KernelCompute, 8);
BEBERT_ORT_SLOT(OrtCustomOp, KernelDestroy, 9);
BEBERT_ORT_SLOT(OrtCustomOp, GetInputCharacteristic, 10);
BEBERT_ORT_SLOT(OrtCustomOp, GetOutputCharacteristic, 11);
BEBERT_ORT_SLOT(OrtCustomOp, GetInputMemoryType, 12);
BEBERT_ORT_SLOT(OrtCustomOp, GetVariadicInputMinArity, 13);
BEBERT_ORT_SLOT(OrtCustomOp, GetVariadicInputHomogeneity, 14);
BEBERT_ORT_SLOT(OrtCustomOp, GetVariadicOutputMinArity, 15);
BEBERT_ORT_SLOT(OrtCustomOp, GetVariadicOutputHomogeneity, 16);
BEBERT_ORT_SLOT(OrtCustomOp, CreateKernelV2, 17);
BEBERT_ORT_SLOT(OrtCustomOp, KernelComputeV2, 18);
BEBERT_ORT_SLOT(OrtCustomOp, InferOutputShapeFn, 19);
BEBERT_ORT_SLOT(OrtCustomOp, GetStartVersion, 20);
BEBERT_ORT_SLOT(OrtCustomOp, GetEndVersion, 21);

#undef BEBERT_ORT_SLOT

#endif  // BEBERT_EDGE_ORT_ABI_H_
