// Decides which instruction set to use, when the first kernel is asked for.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_ISA_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_ISA_H_

#include <cstdint>

#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/types.h"

namespace keras_shift {

// The instruction sets in ascending order. The baseline is what the compiler
// takes for granted: SSE2 on x86-64, NEON on AArch64.
enum class Isa { kBaseline, kAvx2, kAvx512, kAvx512Bf16 };
inline constexpr Isa kAscendingIsas[] = {Isa::kBaseline, Isa::kAvx2,
                                         Isa::kAvx512, Isa::kAvx512Bf16};

const char* IsaName(Isa isa);

// Returns the best instruction set that this machine has, that the kernels were
// compiled for, and that the environment variable KERAS_SHIFT_ISA (baseline,
// avx2, avx512 or avx512bf16) allows.
Isa BestIsa();

// The same for a given value of the variable, which may be null. A value that
// names no instruction set allows all of them.
Isa BestIsa(const char* limit);

// Makes BestIsa() return `isa`, or the best one below it that this machine has.
// Tests use this to run all of them in one process. It must not be called while
// a kernel runs.
void LimitIsaForTesting(Isa isa);

// Each of these returns the kernel with the widest vectors that fit into a
// pixel. For a narrow pixel that may be a kernel of a lesser instruction set.
const ShiftKernel& BestShiftKernel(int64_t pixel_bytes);
const SumKernel& BestSumKernel(FloatType type, int64_t channels);
// The kernels that multiply matrices in float32 or bfloat16, which may be of
// any size.
const GemmKernel& BestGemmKernel(bool bfloat16);

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_ISA_H_
