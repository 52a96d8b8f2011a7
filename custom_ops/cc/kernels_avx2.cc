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
#include "custom_ops/cc/kernels_gemm-inl.h"

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

// A panel takes two registers. Of 16 registers, 12 hold sums, two hold weights
// and one holds a channel of a pixel.
struct Avx2Simd : PortableSimd<8> {
  static constexpr int kPixels = 6;

  static __m256 MultiplyAdd(__m256 a, __m256 b, __m256 sum) {
    return _mm256_fmadd_ps(a, b, sum);
  }
  static __m256 Relu(__m256 r) { return _mm256_max_ps(_mm256_setzero_ps(), r); }
};

constexpr ShiftKernel kShift[] = {MakeStreamingShiftKernel<AvxVector>()};

constexpr SumKernel kSumHalf[] = {MakeSumKernel<AvxHalfLanes>()};
constexpr SumKernel kSumBfloat16[] = {MakeSumKernel<Bfloat16Lanes<8>>()};
constexpr SumKernel kSumFloat[] = {MakeSumKernel<FloatLanes<8>>()};
constexpr SumKernel kSumDouble[] = {MakeSumKernel<DoubleLanes<4>>()};

constexpr GemmKernel kGemm = MakeGemmKernel<Avx2Simd>();
constexpr GemmKernel kGemmBfloat16 =
    MakeBfloat16GemmKernel<Bfloat16Words<Avx2Simd>>();

constexpr KernelSet kKernels = {
    .shift = kShift,
    .num_shift = 1,
    .sum = {kSumHalf, kSumBfloat16, kSumFloat, kSumDouble},
    .num_sum = 1,
    .gemm = &kGemm,
    .gemm_bfloat16 = &kGemmBfloat16,
};

}  // namespace

const KernelSet* Avx2Kernels() { return &kKernels; }

}  // namespace keras_shift

#else

namespace keras_shift {

const KernelSet* Avx2Kernels() { return nullptr; }

}  // namespace keras_shift

#endif
