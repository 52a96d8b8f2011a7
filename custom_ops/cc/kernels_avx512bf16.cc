// The kernels for x86-64 with AVX-512 that multiplies pairs of bfloat16.
//
// Flags: those of kernels_avx512.cc, and -mavx512bf16. Without these, or on
// another processor, the object holds no kernel.

#include "custom_ops/cc/kernels.h"

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BW__) && \
    defined(__AVX512DQ__) && defined(__AVX512BF16__)

#include <immintrin.h>

#include <cstdint>

namespace keras_shift {
namespace {

#include "custom_ops/cc/kernels-inl.h"
#include "custom_ops/cc/kernels_gemm-inl.h"
#include "custom_ops/cc/kernels_gemm_avx512-inl.h"

// The instructions take subnormal numbers for zero.
struct Avx512Bf16Words : Bfloat16Words<Avx512Simd> {
  static constexpr int kParts = 1;

  template <int kPart>
  static __m512 Part(__m512 words) {
    return words;
  }
  static __m512 MultiplyAdd(__m512 a, __m512 b, __m512 sum) {
    return _mm512_dpbf16_ps(sum, LoadAs<__m512bh>(&a), LoadAs<__m512bh>(&b));
  }
  static void StoreWide(uint16_t* p, __m512 r) {
    StoreAs(p, _mm512_cvtneps_pbh(r));
  }
};

constexpr GemmKernel kGemmBfloat16 = MakeBfloat16GemmKernel<Avx512Bf16Words>();

constexpr KernelSet kKernels = {
    .shift = nullptr,
    .num_shift = 0,
    .sum = {},
    .num_sum = 0,
    .gemm = nullptr,
    .gemm_bfloat16 = &kGemmBfloat16,
};

}  // namespace

const KernelSet* Avx512Bf16Kernels() { return &kKernels; }

}  // namespace keras_shift

#else

namespace keras_shift {

const KernelSet* Avx512Bf16Kernels() { return nullptr; }

}  // namespace keras_shift

#endif
