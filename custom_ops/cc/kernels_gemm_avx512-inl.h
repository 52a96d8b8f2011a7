// How AVX-512 multiplies, for the objects of its instruction sets. Included
// after kernels_gemm-inl.h.

// A panel takes one register. With two panels side by side, 28 of 32 registers
// hold sums, two hold weights and one holds a channel of a pixel.
struct Avx512Simd {
  static constexpr int kLanes = 16;
  static constexpr int kPixels = 14;
  static constexpr int kPanels = 2;
  using Register = __m512;

  static __m512 Load(const void* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, __m512 r) { _mm512_storeu_ps(p, r); }
  static __m512 LoadFirst(const float* p, int64_t count) {
    return _mm512_maskz_loadu_ps(MaskOf(count), p);
  }
  static void StoreFirst(float* p, __m512 r, int64_t count) {
    _mm512_mask_storeu_ps(p, MaskOf(count), r);
  }
  static __m512 Fill(const void* p) { return _mm512_set1_ps(LoadAs<float>(p)); }
  static __m512 MultiplyAdd(__m512 a, __m512 b, __m512 sum) {
    return _mm512_fmadd_ps(a, b, sum);
  }
  static __m512 Relu(__m512 r) {
    // Unmasked, GCC 12 warns of an uninitialized register in its own header.
    return _mm512_maskz_max_ps(0xffff, _mm512_setzero_ps(), r);
  }

 private:
  static __mmask16 MaskOf(int64_t count) {
    return static_cast<__mmask16>((1u << count) - 1);
  }
};
