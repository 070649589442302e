// SPDX-License-Identifier: Apache-2.0
// CPU paths. The name of a path is the same everywhere: file name, symbol suffix, printed name, and the value of the
// environment variable BEBERT_EDGE_KERNEL that forces one.
#ifndef BEBERT_EDGE_KERNELS_CPU_H_
#define BEBERT_EDGE_KERNELS_CPU_H_

namespace bebert {

// In rising order of preference within one architecture.
enum class Isa { scalar, x86_avx2, x86_avx512, arm64_neon, arm64_dotprod };
constexpr int kIsaCount = 5;

const char* name(Isa isa);

// The instruction sets that both the CPU and the operating system (register state) support.
struct CpuFlags {
  bool avx2;     // AVX2, BMI1, BMI2, POPCNT
  bool avx512;   // all of F, BW, VL, DQ, VBMI, VNNI, VPOPCNTDQ, BITALG
  bool neon;     // Advanced SIMD of AArch64
  bool dotprod;  // and its dot product of bytes: FEAT_DotProd
};

CpuFlags detect();

bool supported(Isa isa, CpuFlags flags);

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_CPU_H_
