// SPDX-License-Identifier: Apache-2.0
#include "cpu.h"

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#define BEBERT_X86 1
#if defined(_MSC_VER) && !defined(__clang__)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) || defined(_M_ARM64)
#define BEBERT_ARM64 1
#if defined(__linux__)
// Weak: where the process offers no such function, the baseline is what there is.
extern "C" __attribute__((weak)) unsigned long getauxval(unsigned long type);
#endif
#endif

namespace bebert {

const char* name(Isa isa) {
  switch (isa) {
    case Isa::x86_avx2:
      return "x86_avx2";
    case Isa::x86_avx512:
      return "x86_avx512";
    case Isa::arm64_neon:
      return "arm64_neon";
    case Isa::arm64_dotprod:
      return "arm64_dotprod";
    case Isa::scalar:
      break;
  }
  return "scalar";
}

bool supported(Isa isa, CpuFlags flags) {
  switch (isa) {
    case Isa::x86_avx2:
      return flags.avx2;
    case Isa::x86_avx512:
      return flags.avx512;
    case Isa::arm64_neon:
      return flags.neon;
    case Isa::arm64_dotprod:
      return flags.dotprod;
    case Isa::scalar:
      break;
  }
  return true;
}

#ifdef BEBERT_X86

namespace {

struct Registers {
  uint32_t eax, ebx, ecx, edx;
};

Registers cpuid(uint32_t leaf) {
  Registers r = {0, 0, 0, 0};
#if defined(_MSC_VER) && !defined(__clang__)
  int out[4];
  __cpuidex(out, static_cast<int>(leaf), 0);
  r = {uint32_t(out[0]), uint32_t(out[1]), uint32_t(out[2]), uint32_t(out[3])};
#else
  __cpuid_count(leaf, 0, r.eax, r.ebx, r.ecx, r.edx);
#endif
  return r;
}

// XCR0: the register state that the operating system saves. Defined only where OSXSAVE is set.
uint64_t saved_register_state() {
#if defined(_MSC_VER) && !defined(__clang__)
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t(high) << 32) | low;
#endif
}

constexpr bool has(uint32_t word, uint32_t mask) { return (word & mask) == mask; }
constexpr uint32_t bit(int index) { return uint32_t(1) << index; }

}  // namespace

// Bit positions: Intel SDM volume 2A, CPUID; volume 1, section 13.3 (XCR0).
CpuFlags detect() {
  CpuFlags flags = {};
  if (cpuid(0).eax < 7) return flags;
  const Registers leaf1 = cpuid(1);
  constexpr uint32_t kPopcntOsxsaveAvx = bit(23) | bit(27) | bit(28);
  if (!has(leaf1.ecx, kPopcntOsxsaveAvx)) return flags;

  const uint64_t state = saved_register_state();
  const bool ymm_saved = (state & 0x06) == 0x06;  // SSE, AVX
  const bool zmm_saved = (state & 0xe6) == 0xe6;  // and opmask, upper halves of zmm0-15, zmm16-31

  const Registers leaf7 = cpuid(7);
  constexpr uint32_t kBmi1Avx2Bmi2 = bit(3) | bit(5) | bit(8);
  constexpr uint32_t kFDqBwVl = bit(16) | bit(17) | bit(30) | bit(31);
  constexpr uint32_t kVbmiVnniBitalgVpopcntdq = bit(1) | bit(11) | bit(12) | bit(14);
  flags.avx2 = ymm_saved && has(leaf7.ebx, kBmi1Avx2Bmi2);
  flags.avx512 = flags.avx2 && zmm_saved && has(leaf7.ebx, kFDqBwVl) && has(leaf7.ecx, kVbmiVnniBitalgVpopcntdq);
  return flags;
}

#elif defined(BEBERT_ARM64)

namespace {

bool has_dot_product() {
#if defined(__APPLE__)
  return true;  // every Mac and, from the A12 on, every iPhone
#elif defined(__linux__)
  // AT_HWCAP and HWCAP_ASIMDDP: Linux, include/uapi/linux/auxvec.h and arch/arm64/include/uapi/asm/hwcap.h.
  return getauxval && (getauxval(16) >> 20 & 1);
#else
  return false;
#endif
}

}  // namespace

// Advanced SIMD is part of the AArch64 baseline.
CpuFlags detect() {
  CpuFlags flags = {};
  flags.neon = true;
  flags.dotprod = has_dot_product();
  return flags;
}

#else

CpuFlags detect() { return {}; }

#endif

}  // namespace bebert
