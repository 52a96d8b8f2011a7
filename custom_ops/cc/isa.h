// Which instruction set to use: decided when the first kernel is asked for.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_ISA_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_ISA_H_

#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/shift.h"

namespace keras_shift {

// In ascending order. The baseline is what the compiler takes for granted: SSE2
// on x86-64, NEON on AArch64.
enum class Isa { kBaseline, kAvx2, kAvx512 };

const char* IsaName(Isa isa);

// The best one that this machine has, this file was compiled for, and the
// environment variable KERAS_SHIFT_ISA (baseline, avx2 or avx512) allows.
Isa BestIsa();

// The same for a given value of the variable, which may be null. A value that
// names no instruction set allows all of them.
Isa BestIsa(const char* limit);

// Makes BestIsa() answer `isa`, or what comes below it. For tests, which want
// to see them all in one process; not to be called while a kernel runs.
void LimitIsaForTesting(Isa isa);

// The kernels of the widest vectors that fit into a pixel. A narrow pixel may
// get those of a lesser instruction set.
const ShiftKernel& BestShiftKernel(int64_t pixel_bytes);
const SumKernel& BestSumKernel(FloatType type, int64_t channels);
// Those for matrices of any size.
const ProductKernel& BestProductKernel();

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_ISA_H_
