#include "custom_ops/cc/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace keras_shift {
namespace {

#if defined(__x86_64__)
// Whether there are conversions of 16-bit floats, which older compilers, such
// as Clang 14, have no name for in __builtin_cpu_supports(). They work on the
// registers of AVX, so that whoever asks for AVX2 has asked the operating
// system for these, too.
bool MachineHasF16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

// Asks for everything that the objects of this level are compiled with (see
// the flags in kernels_avx2.cc, kernels_avx512.cc and kernels_avx512bf16.cc).
bool MachineHas(Isa isa) {
#if defined(__x86_64__)
  // In a virtual machine, the instruction leaves to the hypervisor, which takes
  // longer than some units do.
  static const bool f16c = MachineHasF16c();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
  const bool avx512 =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  if (isa == Isa::kAvx2) return avx2;
  if (isa == Isa::kAvx512) return avx2 && avx512;
  if (isa == Isa::kAvx512Bf16) {
    return avx2 && avx512 && __builtin_cpu_supports("avx512bf16");
  }
#endif
  return isa == Isa::kBaseline;
}

// Null where the machine or the compiler lacks it.
const KernelSet* KernelsOf(Isa isa) {
  if (!MachineHas(isa)) return nullptr;
  switch (isa) {
    case Isa::kAvx512Bf16:
      return Avx512Bf16Kernels();
    case Isa::kAvx512:
      return Avx512Kernels();
    case Isa::kAvx2:
      return Avx2Kernels();
    case Isa::kBaseline:
      break;
  }
  return BaselineKernels();
}

std::atomic<Isa>& Decision() {
  static std::atomic<Isa> decision{BestIsa(std::getenv("KERAS_SHIFT_ISA"))};
  return decision;
}

}  // namespace

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kAvx512Bf16:
      return "avx512bf16";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kBaseline:
      break;
  }
  return "baseline";
}

Isa BestIsa(const char* limit) {
  Isa best = Isa::kBaseline;
  for (Isa isa : kAscendingIsas) {
    if (KernelsOf(isa) != nullptr) best = isa;
    if (limit != nullptr && std::strcmp(limit, IsaName(isa)) == 0) break;
  }
  return best;
}

Isa BestIsa() { return Decision().load(std::memory_order_relaxed); }

void LimitIsaForTesting(Isa isa) { Decision() = BestIsa(IsaName(isa)); }

const ShiftKernel& BestShiftKernel(int64_t pixel_bytes) {
  for (int i = static_cast<int>(BestIsa()); i > 0; --i) {
    const KernelSet* kernels = KernelsOf(kAscendingIsas[i]);
    for (int64_t k = 0; kernels != nullptr && k < kernels->num_shift; ++k) {
      if (kernels->shift[k].vector_bytes <= pixel_bytes) {
        return kernels->shift[k];
      }
    }
  }
  const ShiftKernel* kernel = BaselineKernels()->shift;
  // The last kernel's vectors have one byte.
  while (kernel->vector_bytes > pixel_bytes) ++kernel;
  return *kernel;
}

const SumKernel& BestSumKernel(FloatType type, int64_t channels) {
  const int t = static_cast<int>(type);
  for (int i = static_cast<int>(BestIsa()); i > 0; --i) {
    const KernelSet* kernels = KernelsOf(kAscendingIsas[i]);
    for (int64_t k = 0; kernels != nullptr && k < kernels->num_sum; ++k) {
      if (kernels->sum[t][k].lanes <= channels) return kernels->sum[t][k];
    }
  }
  const SumKernel* kernel = BaselineKernels()->sum[t];
  // The last kernel has a single lane.
  while (kernel->lanes > channels) ++kernel;
  return *kernel;
}

const GemmKernel& BestGemmKernel(bool bfloat16) {
  const auto kernel_of = [=](const KernelSet* kernels) {
    return bfloat16 ? kernels->gemm_bfloat16 : kernels->gemm;
  };
  for (int i = static_cast<int>(BestIsa()); i > 0; --i) {
    const KernelSet* kernels = KernelsOf(kAscendingIsas[i]);
    if (kernels != nullptr && kernel_of(kernels) != nullptr) {
      return *kernel_of(kernels);
    }
  }
  return *kernel_of(BaselineKernels());
}

}  // namespace keras_shift
