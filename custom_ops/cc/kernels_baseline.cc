// The kernels for every machine. They use SSE2 on x86-64, NEON on AArch64, and
// whatever the compiler makes of GCC's vector types elsewhere.
//
// Flags: those of all files, with -O3.

#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "custom_ops/cc/kernels.h"

namespace keras_shift {
namespace {

#include "custom_ops/cc/kernels-inl.h"
#include "custom_ops/cc/kernels_gemm-inl.h"

typedef uint64_t Word16 __attribute__((vector_size(16)));

#if defined(__SSE2__)
struct SseVector : PortableVector<Word16> {
  static void Stream(unsigned char* p, Word16 r) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), LoadAs<__m128i>(&r));
  }
  static void EndStream() { _mm_sfence(); }
};
constexpr ShiftKernel kVectorShift = MakeStreamingShiftKernel<SseVector>();
#else
constexpr ShiftKernel kVectorShift = MakeShiftKernel<PortableVector<Word16>>();
#endif

// A panel takes four registers.
struct BaselineSimd : PortableSimd<4> {
#if defined(__aarch64__)
  // With six pixels, 24 of 32 registers hold sums.
  static constexpr int kPixels = 6;
  // This is not left to the compiler, which might fuse the two operations in
  // one tile and not in another.
  static Register MultiplyAdd(Register a, Register b, Register sum) {
    return vfmaq_f32(sum, a, b);
  }
#else
  // With two pixels, 8 of 16 registers hold sums.
  static constexpr int kPixels = 2;
#endif
};

// The narrow vectors are for pixels of a few bytes.
constexpr ShiftKernel kShift[] = {
    kVectorShift,
    MakeShiftKernel<PortableVector<uint64_t>>(),
    MakeShiftKernel<PortableVector<uint32_t>>(),
    MakeShiftKernel<PortableVector<uint16_t>>(),
    MakeShiftKernel<PortableVector<uint8_t>>(),
};

constexpr SumKernel kSumHalf[] = {MakeSumKernel<HalfLanes<4>>(),
                                  MakeSumKernel<HalfLanes<1>>()};
constexpr SumKernel kSumBfloat16[] = {MakeSumKernel<Bfloat16Lanes<4>>(),
                                      MakeSumKernel<Bfloat16Lanes<1>>()};
constexpr SumKernel kSumFloat[] = {MakeSumKernel<FloatLanes<4>>(),
                                   MakeSumKernel<FloatLanes<1>>()};
constexpr SumKernel kSumDouble[] = {MakeSumKernel<DoubleLanes<2>>(),
                                    MakeSumKernel<DoubleLanes<1>>()};

constexpr GemmKernel kGemm = MakeGemmKernel<BaselineSimd>();
constexpr GemmKernel kGemmBfloat16 =
    MakeBfloat16GemmKernel<Bfloat16Words<BaselineSimd>>();

constexpr KernelSet kKernels = {
    .shift = kShift,
    .num_shift = 5,
    .sum = {kSumHalf, kSumBfloat16, kSumFloat, kSumDouble},
    .num_sum = 2,
    .gemm = &kGemm,
    .gemm_bfloat16 = &kGemmBfloat16,
};

}  // namespace

const KernelSet* BaselineKernels() { return &kKernels; }

}  // namespace keras_shift
