// SPDX-License-Identifier: Apache-2.0
// Times the kernels on one thread: bench_kernels [path [tokens]], without tokens at 128 and at 16.
//
// A row gives the fastest and the median of many short runs. Products are also given as a share of the peak: the rate
// of their innermost operations without memory, measured just before. Behind it stands what the creation of a session
// spends on the product: interleaving weights, and finding intervals of zeros or thresholds of levels.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "../kernels/add_layer_norm_quantize/add_layer_norm_quantize.h"
#include "../kernels/binary_attention/binary_attention.h"
#include "../kernels/packed_binary_matmul/kernel.h"
#include "../kernels/packed_binary_matmul/packed_binary_matmul.h"
#include "../kernels/quantize/quantize.h"
#include "peak/peak.h"

namespace bebert {
namespace {

struct NamedCode {
  const char* name;
  CodeType code;
};
constexpr NamedCode kSign = {"sign", {1, -1, 1}}, kBool = {"bool", {1, 0, 1}}, kTernary = {"ternary", {8, -1, 1}},
                    kInt4 = {"int4", {8, -8, 7}}, kUint4 = {"uint4", {8, 0, 15}}, kInt8 = {"int8", {8, -128, 127}},
                    kUint8 = {"uint8", {8, 0, 255}};

struct Times {
  double best, median;  // seconds
};

Times measure(const std::function<void()>& run) {
  using clock = std::chrono::steady_clock;
  std::vector<double> times;
  const auto end = clock::now() + std::chrono::milliseconds(150);
  while (times.size() < 20 || clock::now() < end) {
    const auto start = clock::now();
    run();
    times.push_back(std::chrono::duration<double>(clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2]};
}

Host serial_host() {
  Host host;
  host.context = nullptr;
  host.parallel_for = [](void*, void (*task)(void*, size_t), size_t tasks, void* argument) {
    for (size_t i = 0; i < tasks; ++i) task(argument, i);
  };
  host.allocate = [](void*, size_t bytes) { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); };
  host.release = [](void*, void* memory) { std::free(memory); };
  return host;
}

// 64-byte aligned bytes or floats.
template <class T>
struct Buffer {
  explicit Buffer(int64_t count)
      : data(static_cast<T*>(std::aligned_alloc(64, (static_cast<size_t>(count) * sizeof(T) + 127) / 64 * 64))),
        size(count) {}
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data;
  int64_t size;
};

void fill(const Buffer<float>& floats, float low, float high) {
  for (int64_t i = 0; i < floats.size; ++i) {
    floats.data[i] = low + (high - low) * static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX);
  }
}

void fill(const Buffer<uint8_t>& bytes, CodeType code) {
  for (int64_t i = 0; i < bytes.size; ++i) {
    bytes.data[i] = static_cast<uint8_t>(std::rand() >> 8);
    if (code.width == 8) bytes.data[i] = static_cast<uint8_t>(bytes.data[i] % (code.high - code.low + 1));
  }
}

// Ternary codes are signs of which that of 0 is 0, as in published models.
void fill_quantizer(const Buffer<float>& shift, const Buffer<float>& inverse_step, CodeType code) {
  const bool ternary = is_ternary(code);
  const float middle = ternary ? std::ldexp(1.0f, 64) : 0.4f * static_cast<float>(code.high);
  fill(shift, ternary ? 0.0f : -1.0f, ternary ? 0.0f : 1.0f);
  fill(inverse_step, ternary ? middle : 0.75f * middle, ternary ? middle : 1.25f * middle);
}

// Products a second of the peak loop for a code type; 0 where there is none.
double peak(Isa isa, CodeType input) {
  // This path counts the bits of ternary codes too, with another load.
  const bool bits = input.width == 1 || (isa == Isa::x86_avx512 && is_ternary(input));
  int64_t (*loop)(int64_t) = nullptr;
#define PEAK(path) \
  if (isa == Isa::path) loop = bits ? peak_bits_##path : peak_tables_##path;
#include "peak/peaks.inc"
#undef PEAK
  if (!loop) return 0;
  const int passes = input.high - input.low > 15 ? 2 : 1;
  int64_t products = 0;
  const Times times = measure([&] { products = loop(10000); });
  return static_cast<double>(products) / times.best / passes;
}

void bench_matmul(Isa isa, int64_t tokens, int64_t k, int64_t n, NamedCode input, NamedCode output,
                  Activation activation) {
  const Host host = serial_host();
  const PackedBinaryMatMulPlan plan = {1, n, k, input.code, isa};
  const Buffer<uint8_t> codes(tokens * code_row_bytes(input.code, k)), rows(n * packed_row_bytes(k));
  const Buffer<uint8_t> weights(static_cast<int64_t>(packed_binary_matmul_interleaved_bytes(plan)));
  const Buffer<float> scale(n), bias(n), shift(n), inverse_step(n), y(tokens * n);
  const Buffer<uint8_t> codes_out(tokens * code_row_bytes({8, 0, 1}, n) + 8);
  fill(codes, input.code);
  fill(rows, kSign.code);
  const float largest = static_cast<float>(std::max(input.code.high, -input.code.low));
  fill(scale, 0, 2 / (largest * std::sqrt(static_cast<float>(k))));
  fill(bias, -1, 1);
  fill_quantizer(shift, inverse_step, output.code);
  const Times interleave = measure([&] { packed_binary_matmul_interleave(plan, rows.data, weights.data, host); });

  PackedBinaryMatMulArgs args = {};
  args.codes = codes.data;
  args.code_members = 1;
  args.tokens = tokens;
  args.weights = weights.data;
  args.scale = scale.data;
  args.bias = bias.data;
  args.activation = activation;
  if (output.name) {
    args.shift = shift.data;
    args.inverse_step = inverse_step.data;
    args.output = output.code;
    args.codes_out = codes_out.data;
  } else {
    args.y = y.data;
  }
  const Buffer<int32_t> zero_begin(2 * n);
  const Buffer<uint32_t> zero_length(2 * n);
  Times search = {};
  if (output.name && packed_binary_matmul_zero_ranges(plan, args, zero_begin.data, zero_length.data)) {
    search = measure([&] { packed_binary_matmul_zero_ranges(plan, args, zero_begin.data, zero_length.data); });
    args.zero_begin = zero_begin.data;
    args.zero_length = zero_length.data;
  }
  const size_t level_bytes = output.name ? packed_binary_matmul_level_bytes(plan, output.code, activation) : 0;
  const Buffer<uint8_t> levels(static_cast<int64_t>(level_bytes));
  if (level_bytes > 0) {
    search = measure([&] { packed_binary_matmul_find_levels(plan, args, levels.data); });
    args.levels = levels.data;
  }
  const double peak_rate = peak(isa, input.code);
  const Times times = measure([&] { packed_binary_matmul_run(plan, args, host); });
  const double rate = static_cast<double>(tokens * k * n) / times.best;
  constexpr const char* kActivationNames[] = {"", "relu", "gelu"};
  std::printf("matmul %4lld x %4lld x %4lld  %-7s -> %-7s %-4s %8.1f us (median %8.1f) %7.0f GMAC/s", (long long)tokens,
              (long long)k, (long long)n, input.name, output.name ? output.name : "float",
              kActivationNames[static_cast<int>(activation)], times.best * 1e6, times.median * 1e6, rate / 1e9);
  if (peak_rate > 0) std::printf(", %3.0f %% of %.0f", 100 * rate / peak_rate, peak_rate / 1e9);
  std::printf(", load %.2f + %.2f ms\n", interleave.best * 1e3, search.best * 1e3);
}

void bench_attention(Isa isa, int64_t tokens, int64_t heads, int64_t head_size, NamedCode input, NamedCode probability,
                     NamedCode output, bool softmax, bool biased = false) {
  const Host host = serial_host();
  const int64_t channels = heads * head_size;
  const int64_t row_bytes = code_row_bytes(input.code, 3 * channels);
  const Buffer<uint8_t> qkv(tokens * row_bytes), codes(tokens * channels + 64);
  const Buffer<float> score_scale(heads), probability_scale(heads), context_scale(heads), shift(channels),
      inverse_step(channels);
  fill(qkv, input.code);
  const float largest = static_cast<float>(std::max(input.code.high, -input.code.low));
  const float spread = std::sqrt(static_cast<float>(head_size)) * largest * largest;
  const float levels = static_cast<float>(probability.code.high);
  fill(score_scale, 1 / spread, 2 / spread);
  fill(probability_scale, 2 * levels, 4 * levels);
  fill(context_scale, 0.1f / levels, 0.2f / levels);
  fill_quantizer(shift, inverse_step, output.code);
  const int64_t offsets[2] = {0, tokens};
  BinaryAttentionArguments a = {};
  a.config = {heads, head_size, softmax, input.code, probability.code, output.code};
  a.query = {qkv.data, tokens, row_bytes, 0};
  a.key = {qkv.data, tokens, row_bytes, channels};
  a.value = {qkv.data, tokens, row_bytes, 2 * channels};
  a.query_offsets = a.key_offsets = offsets;
  a.members = a.sequences = 1;
  a.score_scale = score_scale.data;
  a.probability_inverse_step = probability_scale.data;
  a.context_scale = context_scale.data;
  a.shift = shift.data;
  a.inverse_step = inverse_step.data;
  a.codes = codes.data;
  const int64_t most_distance = 128;
  const Buffer<float> bias(heads * (2 * most_distance + 1));
  fill(bias, -2, 2);
  if (biased) {
    a.distance_bias = bias.data;
    a.most_distance = most_distance;
  }
  const char* scores = biased ? "biased" : softmax ? "softmax" : "boolean";
  const Times times = measure([&] { binary_attention(isa, a, host); });
  std::printf("attention %4lld tokens, %2lld heads of %2lld  %-5s, %-5s %-7s -> %-7s %8.1f us (median %8.1f)\n",
              (long long)tokens, (long long)heads, (long long)head_size, input.name, probability.name, scores,
              output.name, times.best * 1e6, times.median * 1e6);
}

void bench_rows(Isa isa, int64_t tokens, int64_t channels, NamedCode code) {
  const Host host = serial_host();
  const Buffer<float> x(tokens * channels), residual(tokens * channels), gamma(channels), beta(channels),
      shift(channels), inverse_step(channels), y(tokens * channels);
  const Buffer<uint8_t> codes(tokens * channels + 64);
  for (const Buffer<float>* floats : {&x, &residual, &gamma, &beta, &shift, &inverse_step}) fill(*floats, -1, 1);
  const AddLayerNormQuantizeArguments arguments = {
      x.data, residual.data, gamma.data, beta.data, shift.data, inverse_step.data, y.data, codes.data, 1, 1,
      1,      tokens,        channels,   1e-12f,    code.code};
  Times times = measure([&] { add_layer_norm_quantize(isa, arguments, host); });
  std::printf("add_layer_norm_quantize %4lld x %4lld -> %-5s %8.1f us (median %8.1f)\n", (long long)tokens,
              (long long)channels, code.name, times.best * 1e6, times.median * 1e6);
  times = measure([&] {
    quantize(isa,
             {x.data, shift.data, inverse_step.data, codes.data, 1, 1, tokens, channels, code.code, Activation::none},
             host);
  });
  std::printf("quantize                %4lld x %4lld -> %-5s %8.1f us (median %8.1f)\n", (long long)tokens,
              (long long)channels, code.name, times.best * 1e6, times.median * 1e6);
}

// The activation of a sum of two products.
void bench_gelu(Isa isa, int64_t tokens, int64_t channels, NamedCode code) {
  const Host host = serial_host();
  const Buffer<float> x(tokens * channels), shift(channels), inverse_step(channels);
  const Buffer<uint8_t> codes(tokens * channels + 64);
  fill(x, -3, 3);
  fill_quantizer(shift, inverse_step, code.code);
  const Times times = measure([&] {
    quantize(isa,
             {x.data, shift.data, inverse_step.data, codes.data, 1, 1, tokens, channels, code.code, Activation::gelu},
             host);
  });
  std::printf("quantize gelu           %4lld x %4lld -> %-5s %8.1f us (median %8.1f)\n", (long long)tokens,
              (long long)channels, code.name, times.best * 1e6, times.median * 1e6);
}

void bench_architecture(Isa isa, int64_t tokens, int64_t hidden, int64_t intermediate) {
  struct Codes {
    NamedCode hidden, context, intermediate, probability;
  };
  // The last is BiBERT, where a context or what GELU gives can be 0.
  for (const Codes& c : {Codes{kSign, kSign, kBool, kBool}, Codes{kInt4, kInt4, kUint4, kUint4},
                         Codes{kInt8, kInt8, kUint8, kUint8}, Codes{kSign, kTernary, kTernary, kBool}}) {
    bench_matmul(isa, tokens, hidden, 3 * hidden, c.hidden, c.hidden, Activation::none);
    bench_matmul(isa, tokens, hidden, hidden, c.context, {nullptr, {8, 0, 1}}, Activation::none);
    bench_matmul(isa, tokens, hidden, intermediate, c.hidden, c.intermediate, Activation::relu);
    bench_matmul(isa, tokens, hidden, intermediate, c.hidden, c.intermediate, Activation::gelu);
    bench_matmul(isa, tokens, intermediate, hidden, c.intermediate, {nullptr, {8, 0, 1}}, Activation::none);
    bench_attention(isa, tokens, 12, hidden / 12, c.hidden, c.probability, c.context, true);
    bench_attention(isa, tokens, 12, hidden / 12, c.hidden, c.probability, c.context, true, true);
    if (c.hidden.code.width == 1) bench_attention(isa, tokens, 12, hidden / 12, c.hidden, kBool, c.context, false);
    bench_rows(isa, tokens, hidden, c.hidden);
    bench_gelu(isa, tokens, intermediate, c.intermediate);
  }
}

int run(int argc, char** argv) {
  Isa isa = Isa::scalar;
  const CpuFlags flags = detect();
  for (int i = 0; i < kIsaCount; ++i) {
    if (!supported(Isa(i), flags)) continue;
    if (argc < 2 || std::strcmp(argv[1], name(Isa(i))) == 0) isa = Isa(i);
  }
  if (argc > 1 && std::strcmp(argv[1], name(isa)) != 0) {
    std::fprintf(stderr, "bench_kernels: this machine has no path %s\n", argv[1]);
    return 1;
  }
  std::vector<int64_t> sizes = {128, 16};
  if (argc > 2) sizes = {std::atoll(argv[2])};
  for (int64_t tokens : sizes) {
    std::printf("path %s, one thread, %lld tokens\n", name(isa), static_cast<long long>(tokens));
    std::printf("BERT-base\n");
    bench_architecture(isa, tokens, 768, 3072);
    std::printf("MiniLM\n");
    bench_architecture(isa, tokens, 384, 1536);
  }
  return 0;
}

}  // namespace
}  // namespace bebert

int main(int argc, char** argv) { return bebert::run(argc, argv); }
