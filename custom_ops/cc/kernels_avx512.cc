// The kernels for x86-64 with AVX-512.
//
// Flags: those of all files, with -O3, and -mavx512f -mavx512vl -mavx512bw
// -mavx512dq -mfma -mf16c -mprefer-vector-width=512. Without these, or on
// another processor, the object holds no kernel.

#include "custom_ops/cc/kernels.h"

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BW__) && \
    defined(__AVX512DQ__)

#include <immintrin.h>

#include <cstdint>

namespace keras_shift {
namespace {

#include "custom_ops/cc/kernels-inl.h"
#include "custom_ops/cc/kernels_gemm-inl.h"
#include "custom_ops/cc/kernels_gemm_avx512-inl.h"

// A mask has a bit for each byte.
struct Avx512Vector {
  static constexpr int64_t kBytes = 64;
  static constexpr int64_t kMaskBytes = 8;
  using Register = __m512i;
  using Mask = __mmask64;

  static __m512i Load(const unsigned char* p) { return _mm512_loadu_si512(p); }
  static void Store(unsigned char* p, __m512i r) { _mm512_storeu_si512(p, r); }
  static void Stream(unsigned char* p, __m512i r) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), r);
  }
  static void EndStream() { _mm_sfence(); }
  static __mmask64 LoadMask(const unsigned char* p) {
    return LoadAs<__mmask64>(p);
  }
  static __m512i Merge(__m512i r, __mmask64 mask, const unsigned char* p) {
    // All bytes are loaded, and then some are selected. The compiler would make
    // a masked load of this, which is slower; so it is told that the register
    // may have changed in between.
    __m512i loaded = Load(p);
    __asm__("" : "+v"(loaded));
    return _mm512_mask_mov_epi8(r, mask, loaded);
  }
};

struct Avx512HalfLanes : FloatLanes<16> {
  using Element = uint16_t;
  static Register Load(const uint16_t* p) {
    // Unmasked, GCC 12 warns of an uninitialized register in its own header.
    return _mm512_maskz_cvtph_ps(0xffff, LoadAs<__m256i>(p));
  }
};

constexpr ShiftKernel kShift[] = {MakeStreamingShiftKernel<Avx512Vector>()};

constexpr SumKernel kSumHalf[] = {MakeSumKernel<Avx512HalfLanes>()};
constexpr SumKernel kSumBfloat16[] = {MakeSumKernel<Bfloat16Lanes<16>>()};
constexpr SumKernel kSumFloat[] = {MakeSumKernel<FloatLanes<16>>()};
constexpr SumKernel kSumDouble[] = {MakeSumKernel<DoubleLanes<8>>()};

constexpr GemmKernel kGemm = MakeGemmKernel<Avx512Simd>();
constexpr GemmKernel kGemmBfloat16 =
    MakeBfloat16GemmKernel<Bfloat16Words<Avx512Simd>>();

constexpr KernelSet kKernels = {
    .shift = kShift,
    .num_shift = 1,
    .sum = {kSumHalf, kSumBfloat16, kSumFloat, kSumDouble},
    .num_sum = 1,
    .gemm = &kGemm,
    .gemm_bfloat16 = &kGemmBfloat16,
};

}  // namespace

const KernelSet* Avx512Kernels() { return &kKernels; }

}  // namespace keras_shift

#else

namespace keras_shift {

const KernelSet* Avx512Kernels() { return nullptr; }

}  // namespace keras_shift

#endif
