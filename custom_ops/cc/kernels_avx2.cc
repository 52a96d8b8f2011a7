// The kernels for x86-64 with AVX2.
//
// Flags: those of all files, with -O3, and -mavx2 -mfma -mf16c. Without these,
// or on another processor, the object holds no kernel.

#include "custom_ops/cc/kernels.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include <immintrin.h>

#include <cstdint>

namespace keras_shift {
namespace {

#include "custom_ops/cc/kernels-inl.h"

typedef uint64_t Word32 __attribute__((vector_size(32)));

struct AvxVector : PortableVector<Word32> {
  static void Stream(unsigned char* p, Word32 r) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), LoadAs<__m256i>(&r));
  }
  static void EndStream() { _mm_sfence(); }
};

struct AvxHalfLanes : FloatLanes<8> {
  using Element = uint16_t;
  static Register Load(const uint16_t* p) {
    return _mm256_cvtph_ps(LoadAs<__m128i>(p));
  }
};

constexpr ShiftKernel kShift[] = {MakeStreamingShiftKernel<AvxVector>()};

constexpr SumKernel kSumHalf[] = {MakeSumKernel<AvxHalfLanes>()};
constexpr SumKernel kSumBfloat16[] = {MakeSumKernel<Bfloat16Lanes<8>>()};
constexpr SumKernel kSumFloat[] = {MakeSumKernel<FloatLanes<8>>()};
constexpr SumKernel kSumDouble[] = {MakeSumKernel<DoubleLanes<4>>()};

constexpr KernelSet kKernels = {
    kShift, 1, {kSumHalf, kSumBfloat16, kSumFloat, kSumDouble}, 1};

}  // namespace

const KernelSet* Avx2Kernels() { return &kKernels; }

}  // namespace keras_shift

#else

namespace keras_shift {

const KernelSet* Avx2Kernels() { return nullptr; }

}  // namespace keras_shift

#endif
