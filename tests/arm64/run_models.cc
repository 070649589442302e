// SPDX-License-Identifier: Apache-2.0
// Runs models with the native library through the C API of onnxruntime, where there is no Python:
//
//   run_models LIBONNXRUNTIME BEBERT_EDGE_OPS FOLDER...
//
// A folder has model.onnx and <input>.npy for each input, required or not, and gets <output>.npy for each output.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "../../custom_ops/ort/abi.h"

namespace {

struct OrtEnv;
struct OrtSession;
struct OrtRunOptions;

// Ends the program where `status` is an error.
void check(const OrtApi* api, OrtStatus* status) {
  if (!status) return;
  using GetErrorMessage = const char* (*)(const OrtStatus*);
  std::fprintf(stderr, "%s\n", reinterpret_cast<const GetErrorMessage*>(api)[2](status));
  std::exit(1);
}

// A function of OrtApi by its slot.
template <int slot, class... Arguments>
struct ApiFunction {
  const OrtApi* api;

  void operator()(Arguments... arguments) const {
    using Function = OrtStatus* (*)(Arguments...);
    check(api, reinterpret_cast<const Function*>(api)[slot](arguments...));
  }
};

struct Api {
  const OrtApi* api;
  ApiFunction<3, int, const char*, OrtEnv**> CreateEnv{api};
  ApiFunction<7, OrtEnv*, const char*, const OrtSessionOptions*, OrtSession**> CreateSession{api};
  ApiFunction<9, OrtSession*, const OrtRunOptions*, const char* const*, const OrtValue* const*, size_t,
              const char* const*, size_t, OrtValue**>
      Run{api};
  ApiFunction<10, OrtSessionOptions**> CreateSessionOptions{api};
  ApiFunction<24, OrtSessionOptions*, int> SetIntraOpNumThreads{api};
  ApiFunction<30, const OrtSession*, size_t*> SessionGetInputCount{api};
  ApiFunction<31, const OrtSession*, size_t*> SessionGetOutputCount{api};
  ApiFunction<32, const OrtSession*, size_t*> SessionGetOverridableInitializerCount{api};
  ApiFunction<36, const OrtSession*, size_t, OrtAllocator*, char**> SessionGetInputName{api};
  ApiFunction<37, const OrtSession*, size_t, OrtAllocator*, char**> SessionGetOutputName{api};
  ApiFunction<38, const OrtSession*, size_t, OrtAllocator*, char**> SessionGetOverridableInitializerName{api};
  ApiFunction<49, const OrtMemoryInfo*, void*, size_t, const int64_t*, size_t, OrtElementType, OrtValue**>
      CreateTensorWithDataAsOrtValue{api};
  ApiFunction<51, OrtValue*, void**> GetTensorMutableData{api};
  ApiFunction<60, const OrtTensorTypeAndShapeInfo*, OrtElementType*> GetTensorElementType{api};
  ApiFunction<61, const OrtTensorTypeAndShapeInfo*, size_t*> GetDimensionsCount{api};
  ApiFunction<62, const OrtTensorTypeAndShapeInfo*, int64_t*, size_t> GetDimensions{api};
  ApiFunction<65, const OrtValue*, OrtTensorTypeAndShapeInfo**> GetTensorTypeAndShape{api};
  ApiFunction<69, OrtAllocatorType, OrtMemoryType, OrtMemoryInfo**> CreateCpuMemoryInfo{api};
  ApiFunction<78, OrtAllocator**> GetAllocatorWithDefaultOptions{api};
};

void require(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

struct Element {
  OrtElementType type;
  const char* descr;  // of NumPy
  size_t bytes;
};
constexpr Element kElements[] = {{ORT_FLOAT, "<f4", 4}, {ORT_UINT8, "|u1", 1}, {ORT_INT64, "<i8", 8}};

// An array as a .npy file has it, version 1 of the format:
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
struct Tensor {
  Element element;
  std::vector<int64_t> shape;
  std::string data;

  static Tensor load(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    require(bytes.size() >= 10 && bytes.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)) == 0,
            path + ": no .npy file");
    const size_t begin =
        10 + static_cast<uint8_t>(bytes[8]) + 256 * static_cast<size_t>(static_cast<uint8_t>(bytes[9]));
    const std::string header = bytes.substr(10, begin - 10);
    Tensor tensor = {};
    for (const Element& element : kElements) {
      if (header.find(element.descr) != std::string::npos) tensor.element = element;
    }
    require(tensor.element.bytes > 0 && header.find("False") != std::string::npos, path + ": expected another dtype");
    std::string shape = header.substr(header.find('(') + 1);
    for (char& c : shape) c = c == ',' ? ' ' : c;
    std::istringstream numbers(shape.substr(0, shape.find(')')));
    for (int64_t size; numbers >> size;) tensor.shape.push_back(size);
    tensor.data = bytes.substr(begin);
    return tensor;
  }

  void save(const std::string& path) const {
    std::string header = std::string("{'descr': '") + element.descr + "', 'fortran_order': False, 'shape': (";
    for (int64_t size : shape) header += std::to_string(size) + ",";
    header += ")}";
    header.append(64 - (11 + header.size()) % 64, ' ').append("\n");
    std::ofstream file(path, std::ios::binary);
    file << std::string("\x93NUMPY\x01\x00", 8) << static_cast<char>(header.size() % 256)
         << static_cast<char>(header.size() / 256) << header << data;
    require(file.good(), path + ": not written");
  }
};

class Runtime {
 public:
  Runtime(const char* onnxruntime, const char* ops) : api_{open(onnxruntime)} {
    api_.CreateEnv(3, "run_models", &env_);
    api_.CreateSessionOptions(&options_);
    api_.SetIntraOpNumThreads(options_, 2);
    api_.GetAllocatorWithDefaultOptions(&allocator_);
    api_.CreateCpuMemoryInfo(ORT_ARENA_ALLOCATOR, ORT_DEFAULT_MEMORY, &memory_);
    using Register = OrtStatus* (*)(OrtSessionOptions*, const OrtApiBase*);
    check(api_.api, reinterpret_cast<Register>(symbol(ops, "RegisterCustomOps"))(options_, base_));
  }

  void run(const std::string& folder) const {
    OrtSession* session = nullptr;
    api_.CreateSession(env_, (folder + "/model.onnx").c_str(), options_, &session);
    size_t required = 0, optional = 0, output_count = 0;
    api_.SessionGetInputCount(session, &required);
    api_.SessionGetOverridableInitializerCount(session, &optional);
    api_.SessionGetOutputCount(session, &output_count);
    const size_t input_count = required + optional;
    std::vector<char*> input_names(input_count), output_names(output_count);
    std::vector<Tensor> tensors(input_count);
    std::vector<OrtValue*> inputs(input_count), outputs(output_count);
    for (size_t i = 0; i < input_count; ++i) {
      if (i < required) {
        api_.SessionGetInputName(session, i, allocator_, &input_names[i]);
      } else {
        api_.SessionGetOverridableInitializerName(session, i - required, allocator_, &input_names[i]);
      }
      Tensor& t = tensors[i] = Tensor::load(folder + "/" + input_names[i] + ".npy");
      api_.CreateTensorWithDataAsOrtValue(memory_, t.data.data(), t.data.size(), t.shape.data(), t.shape.size(),
                                          t.element.type, &inputs[i]);
    }
    for (size_t i = 0; i < output_count; ++i) api_.SessionGetOutputName(session, i, allocator_, &output_names[i]);
    api_.Run(session, nullptr, input_names.data(), inputs.data(), input_count, output_names.data(), output_count,
             outputs.data());
    for (size_t i = 0; i < output_count; ++i) read(outputs[i]).save(folder + "/" + output_names[i] + ".npy");
  }

 private:
  static void* symbol(const char* library, const char* name) {
    void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    require(handle, handle ? "" : dlerror());
    void* found = dlsym(handle, name);
    require(found, std::string(library) + " has no " + name);
    return found;
  }

  const OrtApi* open(const char* onnxruntime) {
    base_ = reinterpret_cast<const OrtApiBase* (*)()>(symbol(onnxruntime, "OrtGetApiBase"))();
    return base_->GetApi(kOrtApiVersion);
  }

  Tensor read(OrtValue* value) const {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    api_.GetTensorTypeAndShape(value, &info);
    OrtElementType type{};
    api_.GetTensorElementType(info, &type);
    size_t rank = 0, count = 1;
    api_.GetDimensionsCount(info, &rank);
    Tensor tensor = {};
    tensor.shape.resize(rank);
    api_.GetDimensions(info, tensor.shape.data(), rank);
    for (const Element& element : kElements) {
      if (element.type == type) tensor.element = element;
    }
    for (int64_t size : tensor.shape) count *= static_cast<size_t>(size);
    void* data = nullptr;
    api_.GetTensorMutableData(value, &data);
    tensor.data.assign(static_cast<const char*>(data), count * tensor.element.bytes);
    return tensor;
  }

  const OrtApiBase* base_ = nullptr;
  Api api_;
  OrtEnv* env_ = nullptr;
  OrtSessionOptions* options_ = nullptr;
  OrtAllocator* allocator_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
  require(argc >= 3, "usage: run_models LIBONNXRUNTIME BEBERT_EDGE_OPS FOLDER...");
  const Runtime runtime(argv[1], argv[2]);
  for (int i = 3; i < argc; ++i) runtime.run(argv[i]);
}
