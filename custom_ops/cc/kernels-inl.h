// The kernels that shift, and those that sum products, written once for all
// instruction sets. Each kernels_<isa>.cc includes this file inside an unnamed
// namespace, after <cstdint>, "kernels.h" and the intrinsics that it needs.
//
// Nothing here may use the standard library (see kernels.h), or be visible
// outside of the object.

// ---------------------------------------------------------------------------
// Vectors of bytes. A `Vector` is
//
//   kBytes, kMaskBytes: as in ShiftKernel.
//   Register, Mask: the types.
//   Load(p), Store(p, r): p may have any alignment.
//   Stream(p, r): an aligned store past the caches.
//   EndStream(): makes other threads see the streamed bytes.
//   LoadMask(p).
//   Merge(r, mask, p): what is at p where the mask is set, and r elsewhere; r
//     is zero under the mask.

template <typename T>
inline T LoadAs(const void* p) {
  T value;
  __builtin_memcpy(&value, p, sizeof(T));
  return value;
}

template <typename T>
inline void StoreAs(void* p, T value) {
  __builtin_memcpy(p, &value, sizeof(T));
}

// `Word` is anything with | and &: an integer, or one of GCC's vector types.
// The masks of the taps of one vector do not overlap, so that merging is an
// "or".
template <typename Word>
struct PortableVector {
  static constexpr int64_t kBytes = sizeof(Word);
  static constexpr int64_t kMaskBytes = sizeof(Word);
  using Register = Word;
  using Mask = Word;

  static Word Load(const unsigned char* p) { return LoadAs<Word>(p); }
  static void Store(unsigned char* p, Word r) { StoreAs(p, r); }
  static Word LoadMask(const unsigned char* p) { return LoadAs<Word>(p); }
  static Word Merge(Word r, Word mask, const unsigned char* p) {
    return r | (mask & LoadAs<Word>(p));
  }
};

// ---------------------------------------------------------------------------
// Moving pixels.

// The pixels outside of the image.
alignas(64) const unsigned char kZeros[64] = {};

// A vector of kCount elements. A single element is no vector, because GCC 12
// gets comparisons of such vectors wrong on AArch64.
template <typename Element, int64_t kCount>
struct ElementsOf {
  typedef Element Type __attribute__((vector_size(kCount * sizeof(Element))));
};
template <typename Element>
struct ElementsOf<Element, 1> {
  using Type = Element;
};

// Sets the elements to zero that do not pass the filter.
template <typename Element, typename Register>
inline Register Keep(Register value, Register gate, const Filter& filter) {
  constexpr int64_t kCount = sizeof(Register) / sizeof(Element);
  // Registers of fewer bytes hold no such elements.
  if constexpr (kCount > 0) {
    using Elements = typename ElementsOf<Element, kCount>::Type;
    constexpr Element kSign = Element{1} << (8 * sizeof(Element) - 1);
    const Elements flipped = LoadAs<Elements>(&gate) ^ kSign;
    const auto above = flipped > static_cast<Element>(filter.above);
    const auto up_to = flipped <= static_cast<Element>(filter.up_to);
    const Elements kept =
        (above & up_to) ? LoadAs<Elements>(&value) : Elements();
    return LoadAs<Register>(&kept);
  }
  return value;
}

// Writes a vector to p. Its gates lie at p + to_gates, or are the vector itself
// if that is 0.
template <typename Vector, bool kStream, bool kFilter>
inline void Write(unsigned char* p, typename Vector::Register value,
                  const Filter& filter, intptr_t to_gates) {
  if constexpr (kFilter) {
    // The address is computed as a number, since it lies in another array.
    const auto gate = to_gates == 0
                          ? value
                          : Vector::Load(reinterpret_cast<const unsigned char*>(
                                reinterpret_cast<uintptr_t>(p) + to_gates));
    switch (filter.element_size) {
      case 2:
        value = Keep<uint16_t>(value, gate, filter);
        break;
      case 4:
        value = Keep<uint32_t>(value, gate, filter);
        break;
      case 8:
        value = Keep<uint64_t>(value, gate, filter);
        break;
    }
  }
  if constexpr (kStream) {
    Vector::Stream(p, value);
  } else {
    Vector::Store(p, value);
  }
}

// Shifts kPixels pixels of row i from column j on. The taps and masks that they
// share are loaded once for all of them.
//
// With kInside, all that they look at is known to be inside the image and is
// not checked.
//
// This is not inlined, as the compiler would run out of registers. What is read
// from `plan` goes into variables, since the compiler must assume that a store
// changes it.
template <typename Vector, bool kStream, bool kFilter, bool kInside,
          int kPixels>
__attribute__((noinline)) void ShiftPixels(const ShiftPlanView& plan,
                                           const unsigned char* image,
                                           int64_t i, int64_t j, Filter filter,
                                           intptr_t to_gates, unsigned char* y,
                                           int64_t y_pixel_bytes) {
  using Register = typename Vector::Register;
  using Mask = typename Vector::Mask;
  const uint64_t height = plan.height;
  const uint64_t width = plan.width;
  const int64_t pixel_bytes = plan.pixel_bytes;
  const Tap* const taps = plan.taps;
  const unsigned char* const masks = plan.masks;
  const Segment* const end = plan.segments + plan.num_segments;

  // The address is a number, because the pixel itself may lie below the image,
  // where a pointer would not be valid.
  const uintptr_t here = reinterpret_cast<uintptr_t>(image) + plan.slice_begin +
                         (i * plan.width + j) * pixel_bytes;
  // As unsigned numbers, negative ones are beyond any size.
  const auto row_inside = [=](const Tap& tap) {
    return kInside || static_cast<uint64_t>(i + tap.row) < height;
  };
  const auto column_inside = [=](const Tap& tap, int p) {
    return kInside || static_cast<uint64_t>(j + p + tap.column) < width;
  };

  for (const Segment* segment = plan.segments; segment != end; ++segment) {
    const int64_t begin = segment->begin;
    const int64_t whole_vectors = segment->whole_vectors;
    const Tap* tap = taps + segment->first_tap;
    unsigned char* const to = y + begin;

    if (whole_vectors > 0) {
      const uintptr_t from = here + begin + tap->offset;
      for (int p = 0; p < kPixels; ++p) {
        const bool inside = row_inside(*tap) && column_inside(*tap, p);
        const auto* source =
            reinterpret_cast<const unsigned char*>(from + p * pixel_bytes);
        unsigned char* target = to + p * y_pixel_bytes;
        for (int64_t v = 0; v < whole_vectors; ++v) {
          Write<Vector, kStream, kFilter>(
              target + v * Vector::kBytes,
              inside ? Vector::Load(source + v * Vector::kBytes) : Register(),
              filter, to_gates);
        }
      }
      continue;
    }

    Register merged[kPixels] = {};
    const unsigned char* mask_at =
        masks + segment->first_tap * Vector::kMaskBytes;
    for (const Tap* last = tap + segment->num_taps; tap != last; ++tap) {
      const Mask mask = Vector::LoadMask(mask_at);
      mask_at += Vector::kMaskBytes;
      if (!row_inside(*tap)) continue;
      const uintptr_t from = here + begin + tap->offset;
#pragma GCC unroll 5
      for (int p = 0; p < kPixels; ++p) {
        // There is no branch here, as it would be unpredictable.
        const uintptr_t address = column_inside(*tap, p)
                                      ? from + p * pixel_bytes
                                      : reinterpret_cast<uintptr_t>(kZeros);
        merged[p] = Vector::Merge(
            merged[p], mask, reinterpret_cast<const unsigned char*>(address));
      }
    }
#pragma GCC unroll 5
    for (int p = 0; p < kPixels; ++p) {
      Write<Vector, kStream, kFilter>(to + p * y_pixel_bytes, merged[p], filter,
                                      to_gates);
    }
  }
}

// Does the same, and finds out whether all is inside the image.
template <typename Vector, bool kStream, bool kFilter, int kPixels>
inline void ShiftPixelsAt(const ShiftPlanView& plan, const unsigned char* image,
                          int64_t i, int64_t j, const Filter& filter,
                          intptr_t to_gates, unsigned char* y,
                          int64_t y_pixel_bytes) {
  if (i >= plan.first_row && i < plan.last_row && j >= plan.first_column &&
      j + kPixels <= plan.last_column) {
    ShiftPixels<Vector, kStream, kFilter, true, kPixels>(
        plan, image, i, j, filter, to_gates, y, y_pixel_bytes);
  } else {
    ShiftPixels<Vector, kStream, kFilter, false, kPixels>(
        plan, image, i, j, filter, to_gates, y, y_pixel_bytes);
  }
}

// Prefetches pixels of the first row that row i does not yet look at. The rows
// that it does look at are read in an order that no hardware prefetcher
// foresees.
//
// This is always inlined, as GCC drops calls of functions that only prefetch.
__attribute__((always_inline)) inline void PrefetchRowAfter(
    const ShiftPlanView& plan, const unsigned char* image, int64_t i, int64_t j,
    int64_t pixels) {
  const int64_t row = i + 1 + plan.height - plan.last_row;
  if (row >= plan.height) return;
  const unsigned char* first =
      image + plan.slice_begin + (row * plan.width + j) * plan.pixel_bytes;
  // Pixels that are moved as a whole follow each other.
  const bool whole = plan.slice_bytes == plan.pixel_bytes;
  const int64_t runs = whole ? 1 : pixels;
  const int64_t run_bytes = plan.slice_bytes * (whole ? pixels : 1);
  for (int64_t run = 0; run < runs; ++run) {
    for (int64_t byte = 0; byte < run_bytes; byte += 64) {
      __builtin_prefetch(first + run * plan.pixel_bytes + byte);
    }
  }
}

template <int kNumber>
struct Pixels {
  static constexpr int kCount = kNumber;
};

template <typename Vector, bool kStream, bool kFilter>
void FilterRows(const ShiftPlanView& plan, const unsigned char* image,
                int64_t first_row, int64_t last_row, int64_t columns,
                const Filter& filter, unsigned char* y, int64_t y_pixel_bytes) {
  const intptr_t to_gates = filter.gates == nullptr
                                ? 0
                                : reinterpret_cast<uintptr_t>(filter.gates) -
                                      reinterpret_cast<uintptr_t>(y);
  for (int64_t i = first_row; i < last_row; ++i) {
    int64_t j = 0;
    const auto shift = [&](auto pixels) {
      constexpr int kPixels = decltype(pixels)::kCount;
      ShiftPixelsAt<Vector, kStream, kFilter, kPixels>(
          plan, image, i, j, filter, to_gates, y, y_pixel_bytes);
      y += kPixels * y_pixel_bytes;
      j += kPixels;
    };
    // One to three pixels or five are left for the end: one pixel alone would
    // take almost as long as four.
    while (columns - j > 5 || columns - j == 4) {
      if (plan.prefetch) PrefetchRowAfter(plan, image, i, j, 4);
      shift(Pixels<4>());
    }
    switch (columns - j) {
      case 1:
        shift(Pixels<1>());
        break;
      case 2:
        shift(Pixels<2>());
        break;
      case 3:
        shift(Pixels<3>());
        break;
      case 5:
        shift(Pixels<5>());
        break;
    }
  }
  if constexpr (kStream) Vector::EndStream();
}

template <typename Vector, bool kStream>
void ShiftRows(const ShiftPlanView& plan, const unsigned char* image,
               int64_t first_row, int64_t last_row, int64_t columns,
               const Filter* filter, unsigned char* y, int64_t y_pixel_bytes) {
  if (filter == nullptr) {
    FilterRows<Vector, kStream, false>(plan, image, first_row, last_row,
                                       columns, Filter(), y, y_pixel_bytes);
  } else {
    FilterRows<Vector, kStream, true>(plan, image, first_row, last_row, columns,
                                      *filter, y, y_pixel_bytes);
  }
}

template <typename Vector>
constexpr ShiftKernel MakeShiftKernel() {
  return {.vector_bytes = Vector::kBytes,
          .mask_bytes = Vector::kMaskBytes,
          .shift_rows = ShiftRows<Vector, false>,
          .stream_rows = nullptr};
}

template <typename Vector>
constexpr ShiftKernel MakeStreamingShiftKernel() {
  return {.vector_bytes = Vector::kBytes,
          .mask_bytes = Vector::kMaskBytes,
          .shift_rows = ShiftRows<Vector, false>,
          .stream_rows = ShiftRows<Vector, true>};
}

// ---------------------------------------------------------------------------
// Summing products. `Lanes` is
//
//   Element     what is stored; 16-bit floats are stored as uint16_t
//   Number      what it is summed up in
//   kLanes
//   Register    kLanes Numbers
//   Load(p)     reads kLanes Elements
//   Mask        kLanes integers of a Number's size
//   LoadMask(p) reads kLanes of 0 or -1

template <int kCount>
struct VectorOf {
  typedef int32_t Int32 __attribute__((vector_size(4 * kCount)));
  typedef int64_t Int64 __attribute__((vector_size(8 * kCount)));
  typedef uint16_t Uint16 __attribute__((vector_size(2 * kCount)));
  typedef uint32_t Uint32 __attribute__((vector_size(4 * kCount)));
  typedef float Float __attribute__((vector_size(4 * kCount)));
  typedef double Double __attribute__((vector_size(8 * kCount)));
};

template <int kCount>
struct FloatLanes {
  using Element = float;
  using Number = float;
  static constexpr int64_t kLanes = kCount;
  using Register = typename VectorOf<kCount>::Float;
  using Mask = typename VectorOf<kCount>::Int32;
  static Register Load(const float* p) { return LoadAs<Register>(p); }
  static Mask LoadMask(const int32_t* p) { return LoadAs<Mask>(p); }
};

template <int kCount>
struct DoubleLanes {
  using Element = double;
  using Number = double;
  static constexpr int64_t kLanes = kCount;
  using Register = typename VectorOf<kCount>::Double;
  using Mask = typename VectorOf<kCount>::Int64;
  static Register Load(const double* p) { return LoadAs<Register>(p); }
  static Mask LoadMask(const int32_t* p) {
    using Int32 = typename VectorOf<kCount>::Int32;
    return __builtin_convertvector(LoadAs<Int32>(p), Mask);
  }
};

template <int kCount>
struct Bfloat16Lanes : FloatLanes<kCount> {
  using Element = uint16_t;
  using Register = typename VectorOf<kCount>::Float;
  static Register Load(const uint16_t* p) {
    using Uint16 = typename VectorOf<kCount>::Uint16;
    using Uint32 = typename VectorOf<kCount>::Uint32;
    // A bfloat16 is the upper half of a float.
    const Uint32 bits = __builtin_convertvector(LoadAs<Uint16>(p), Uint32)
                        << 16;
    return LoadAs<Register>(&bits);
  }
};

template <int kCount>
struct HalfLanes : FloatLanes<kCount> {
  using Element = uint16_t;
  using Register = typename VectorOf<kCount>::Float;
  static Register Load(const uint16_t* p) {
    using Uint16 = typename VectorOf<kCount>::Uint16;
    using Uint32 = typename VectorOf<kCount>::Uint32;
    const Uint32 half = __builtin_convertvector(LoadAs<Uint16>(p), Uint32);
    const Uint32 exponent = half & 0x7c00;
    // Exponents are biased by 15 in halves and by 127 in floats.
    constexpr uint32_t kRebias = (127 - 15) << 23;
    const Uint32 normal = ((half & 0x7fff) << 13) + kRebias;
    // Infinities and NaNs have the greatest exponent in both.
    const Uint32 greatest = normal + kRebias;
    // Subnormal halves lack the leading 1 of a normal number. Give them one,
    // and subtract it as a float. No subnormal float occurs, which a thread in
    // TensorFlow's care would take for zero.
    constexpr uint32_t kSmallestNormal = (127 - 14) << 23;
    const Uint32 with_one = ((half & 0x03ff) << 13) + kSmallestNormal;
    const Uint32 one = Uint32() + kSmallestNormal;
    const Register difference =
        LoadAs<Register>(&with_one) - LoadAs<Register>(&one);
    const Uint32 subnormal = LoadAs<Uint32>(&difference);
    const Uint32 magnitude = exponent == 0        ? subnormal
                             : exponent == 0x7c00 ? greatest
                                                  : normal;
    const Uint32 bits = magnitude | ((half & 0x8000) << 16);
    return LoadAs<Register>(&bits);
  }
};

// Two pixels of successive rows, in the same column.
template <typename Register>
struct PixelPair {
  Register upper;
  Register lower;
};

// `a` where the mask is set, and `b` elsewhere.
template <typename Mask, typename Register>
inline Register Pick(Mask mask, Register a, Register b) {
  return mask != 0 ? a : b;
}

template <typename Lanes, bool kPrefetch>
void AddRowAs(const SumRow& row, void* sums) {
  using Element = typename Lanes::Element;
  using Register = typename Lanes::Register;
  using Mask = typename Lanes::Mask;
  using Pair = PixelPair<Register>;
  constexpr int64_t kLanes = Lanes::kLanes;
  // These are few enough to stay in the first-level cache, and enough to make
  // the time negligible that it takes to load and store the sums.
  constexpr int64_t kPixels = 32;
  const int64_t columns = row.columns;
  const int64_t channels = row.channels;
  const int64_t g_stride = row.g_stride;
  for (int64_t first = 0; first < columns; first += kPixels) {
    const int64_t last = first + kPixels < columns ? first + kPixels : columns;
    auto* sum = static_cast<typename Lanes::Number*>(sums);
    for (int64_t v = 0; v * kLanes < channels; ++v) {
      const int64_t channel =
          (v + 1) * kLanes <= channels ? v * kLanes : channels - kLanes;
      const int64_t start = first * channels + channel;
      const auto* g =
          static_cast<const Element*>(row.g) + first * g_stride + channel;
      // The addresses are numbers, because the last one lies beyond the array.
      const int64_t step = g_stride * sizeof(Element);
      const int64_t ahead = first * step + channel * sizeof(Element);
      uintptr_t next_g = reinterpret_cast<uintptr_t>(row.next_g) + ahead;
      uintptr_t next_x = reinterpret_cast<uintptr_t>(row.next_x) + ahead;
      const auto* x_0 = static_cast<const Element*>(row.x[0]) + start;
      const auto* x_1 = static_cast<const Element*>(row.x[1]) + start;
      const auto* x_2 = static_cast<const Element*>(row.x[2]) + start;
      const Mask row_below = Lanes::LoadMask(row.row_below + channel);
      const Mask column_below = Lanes::LoadMask(row.column_below + channel);
      // Returns the pixels of the next column in the two rows around i + d.
      const auto next_column = [&] {
        const Register middle = Lanes::Load(x_1);
        const Pair pair = {Pick(row_below, Lanes::Load(x_0), middle),
                           Pick(row_below, middle, Lanes::Load(x_2))};
        x_0 += channels;
        x_1 += channels;
        x_2 += channels;
        return pair;
      };
      const auto pick_column = [&](const Pair& a, const Pair& b) {
        return Pair{Pick(column_below, a.upper, b.upper),
                    Pick(column_below, a.lower, b.lower)};
      };
      Register s_00 = LoadAs<Register>(sum);
      Register s_01 = LoadAs<Register>(sum + kLanes);
      Register s_10 = LoadAs<Register>(sum + 2 * kLanes);
      Register s_11 = LoadAs<Register>(sum + 3 * kLanes);
      const Pair before = next_column();
      Pair here = next_column();
      // `left` and `right` are the pixels on both sides of j + d.
      Pair left = pick_column(before, here);
      for (int64_t j = first; j < last; ++j) {
        const Register upstream = Lanes::Load(g);
        g += g_stride;
        if constexpr (kPrefetch) {
          __builtin_prefetch(reinterpret_cast<const void*>(next_g));
          __builtin_prefetch(reinterpret_cast<const void*>(next_x));
          next_g += step;
          next_x += step;
        }
        const Pair next = next_column();
        const Pair right = pick_column(here, next);
        s_00 += upstream * left.upper;
        s_01 += upstream * right.upper;
        s_10 += upstream * left.lower;
        s_11 += upstream * right.lower;
        here = next;
        left = right;
      }
      StoreAs(sum, s_00);
      StoreAs(sum + kLanes, s_01);
      StoreAs(sum + 2 * kLanes, s_10);
      StoreAs(sum + 3 * kLanes, s_11);
      sum += 4 * kLanes;
    }
  }
}

template <typename Lanes>
void AddRow(const SumRow& row, void* sums) {
  if (row.next_g != nullptr) {
    AddRowAs<Lanes, true>(row, sums);
  } else {
    AddRowAs<Lanes, false>(row, sums);
  }
}

template <typename Number>
void Flush(void* sums, double* totals, int64_t count) {
  auto* sum = static_cast<Number*>(sums);
  for (int64_t k = 0; k < count; ++k) {
    totals[k] += sum[k];
    sum[k] = 0;
  }
}

template <typename Lanes>
constexpr SumKernel MakeSumKernel() {
  return {.lanes = Lanes::kLanes,
          .add_row = AddRow<Lanes>,
          .flush = Flush<typename Lanes::Number>};
}
