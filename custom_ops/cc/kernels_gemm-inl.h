// The GEMM kernels, written once. Included after kernels-inl.h, whose rules it
// follows.
//
// A `Simd` says how an instruction set computes with registers of floats:
//
//   Register: kLanes floats, a divisor of kPanelColumns.
//   kPixels: the most pixels in a tile.
//   kPanels: the most panels side by side in a tile, 1 or 2.
//   Load(p), Store(p, r): p may have any alignment.
//   LoadFirst(p, count), StoreFirst(p, r, count): only `count` floats.
//   Fill(p): a register with the float at p in all lanes.
//   MultiplyAdd(a, b, sum): a * b + sum.
//   Relu(r): NaNs stay NaNs.
//
// A `Words` is a `Simd` that knows what a word of x and of a matrix is:
//
//   kPairs: whether it is a pair of channels.
//   kParts: the number of calls of MultiplyAdd() that a word takes.
//   Part<k>(words): what the k-th of them takes, of x and of the matrix.
//   Bias(words): the biases in the first row of a panel.
//   Mask(words, mask): the bits of each word that the mask has; only for pairs.
//   Wide: a number of the wide tensor.
//   LoadWide(p), StoreWide(p, r): kLanes of them, as floats.

#define KERAS_SHIFT_INLINE __attribute__((always_inline)) inline

template <int kCount>
struct PortableSimd {
  static constexpr int kLanes = kCount;
  static constexpr int kPanels = 1;
  using Register = typename VectorOf<kCount>::Float;

  static Register Load(const void* p) { return LoadAs<Register>(p); }
  static void Store(float* p, Register r) { StoreAs(p, r); }
  static Register LoadFirst(const float* p, int64_t count) {
    Register r = {};
    for (int64_t i = 0; i < count; ++i) r[i] = p[i];
    return r;
  }
  static void StoreFirst(float* p, Register r, int64_t count) {
    for (int64_t i = 0; i < count; ++i) p[i] = r[i];
  }
  static Register Fill(const void* p) { return LoadAs<float>(p) - Register(); }
  static Register MultiplyAdd(Register a, Register b, Register sum) {
    return sum + a * b;
  }
  static Register Relu(Register r) { return r < 0 ? Register() : r; }
};

template <typename Simd>
struct FloatWords : Simd {
  static constexpr bool kPairs = false;
  static constexpr int kParts = 1;
  using Register = typename Simd::Register;
  using Wide = float;

  template <int kPart>
  static Register Part(Register words) {
    return words;
  }
  static Register Bias(Register words) { return words; }
  static Register LoadWide(const float* p) { return Simd::Load(p); }
  static void StoreWide(float* p, Register r) { Simd::Store(p, r); }
};

// Pairs of bfloat16, multiplied as floats. Sums take the even channel of a pair
// first.
template <typename Simd>
struct Bfloat16Words : Simd {
  static constexpr bool kPairs = true;
  static constexpr int kParts = 2;
  using Register = typename Simd::Register;
  using Wide = uint16_t;

  static Register Fill(const void* p) {
    const Bits bits = LoadAs<uint32_t>(p) - Bits();
    return LoadAs<Register>(&bits);
  }
  template <int kPart>
  static Register Part(Register words) {
    // A bfloat16 is the upper half of a float.
    const Bits bits = LoadAs<Bits>(&words);
    const Bits part = kPart == 0 ? bits << 16 : bits & 0xffff0000;
    return LoadAs<Register>(&part);
  }
  static Register Bias(Register words) {
    return Part<0>(words) + Part<1>(words);
  }
  static Register Mask(Register words, uint32_t mask) {
    const Bits bits = LoadAs<Bits>(&words) & mask;
    return LoadAs<Register>(&bits);
  }
  static Register LoadWide(const uint16_t* p) {
    return Bfloat16Lanes<Simd::kLanes>::Load(p);
  }
  static void StoreWide(uint16_t* p, Register r) {
    const Bits bits = LoadAs<Bits>(&r);
    // To the nearest, and from half of the way to the even one.
    const Bits rounded = bits + 0x7fff + ((bits >> 16) & 1);
    const Bits quiet_nan = bits | 0x00400000;
    const Bits result = (bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : rounded;
    StoreAs(p, __builtin_convertvector(result >> 16, Halves));
  }

 private:
  using Bits = typename VectorOf<Simd::kLanes>::Uint32;
  using Halves = typename VectorOf<Simd::kLanes>::Uint16;
};

// ---------------------------------------------------------------------------
// A tile: some pixels by the columns of a panel or two, whose sums stay in
// registers until all channels are added up.

// Half of the pixels of a tile, which follow each other in a row.
struct HalfTile {
  const void* const* x_rows;
  // Where the first pixel begins in these rows, in words.
  int64_t x_offset;
  char* y;
  // Null in both halves, or in none.
  const float* residual;
};

// How far a pixel of a half lies from the first one, in bytes. Three registers
// hold all distances of seven pixels, since an address of x86-64 may contain a
// register times 1, 2, 4 or 8.
constexpr int kMostInHalf = 7;

struct PixelSteps {
  int64_t one, three, five;

  int64_t To(int pixel) const {
    return pixel == 3   ? three
           : pixel == 5 ? five
           : pixel == 6 ? 2 * three
                        : pixel * one;
  }
};

// Computes tiles of kNumPixels pixels by kNumPanels panels.
//
// The sums have to stay in registers. So all loops but those over channels are
// unrolled, and all functions but Run() are inlined. Run() is not, as the
// compiler would run out of registers.
template <typename Words, int kNumPixels, int kNumPanels>
class GemmTile {
 public:
  // Computes the tile and writes its columns to y, `columns` of them at most.
  // The memory that lies `ahead` bytes behind each row of the panel, which
  // begins with `bias`, is prefetched.
  __attribute__((noinline)) static void Run(const GemmParams& params,
                                            const HalfTile* halves,
                                            const char* bias, int64_t columns,
                                            int64_t ahead) {
    Register sums[kNumPixels][kVectors];
    const int64_t panel_bytes = params.panel_size * kWordBytes;
    StartWithBias(bias, panel_bytes, sums);
    AddChannels(params, halves, bias, panel_bytes, ahead, sums);
    const bool adds = halves[0].residual != nullptr;
    if (columns >= kVectors * kLanes && !(adds && params.relu)) {
      StoreWhole(params, halves, adds, sums);
    } else {
      StorePart(params, halves, adds, columns, sums);
    }
  }

 private:
  using Register = typename Words::Register;
  static constexpr int kLanes = Words::kLanes;
  static constexpr int kVectorsPerPanel = kPanelColumns / kLanes;
  static constexpr int kVectors = kNumPanels * kVectorsPerPanel;
  static constexpr int kFirstHalf = (kNumPixels + 1) / 2;
  static constexpr int64_t kRowBytes = kPanelColumns * kWordBytes;
  // The pragmas below unroll up to these numbers.
  static_assert(kFirstHalf <= kMostInHalf && kNumPixels <= 14 && kVectors <= 4);

  // Loads vector v of a row of the panels.
  KERAS_SHIFT_INLINE static Register Weights(const char* row,
                                             int64_t panel_bytes, int v) {
    return Words::Load(row + (v / kVectorsPerPanel) * panel_bytes +
                       (v % kVectorsPerPanel) * kLanes * kWordBytes);
  }

  KERAS_SHIFT_INLINE static void StartWithBias(
      const char* bias, int64_t panel_bytes,
      Register (&sums)[kNumPixels][kVectors]) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Register value = Words::Bias(Weights(bias, panel_bytes, v));
#pragma GCC unroll 14
      for (int m = 0; m < kNumPixels; ++m) sums[m][v] = value;
    }
  }

  KERAS_SHIFT_INLINE static void AddChannels(
      const GemmParams& params, const HalfTile* halves, const char* bias,
      int64_t panel_bytes, int64_t ahead,
      Register (&sums)[kNumPixels][kVectors]) {
    const int64_t step = params.x_step * kWordBytes;
    const PixelSteps steps = {step, 3 * step, 5 * step};
    const ChannelRun* const end = params.runs + params.num_runs;
    for (const ChannelRun* run = params.runs; run != end; ++run) {
      if constexpr (Words::kPairs) {
        if (run->mask != ~uint32_t{0}) {
          AddRun<true>(*run, steps, halves, bias, panel_bytes, ahead, sums);
          continue;
        }
      }
      AddRun<false>(*run, steps, halves, bias, panel_bytes, ahead, sums);
    }
  }

  template <bool kMasked>
  KERAS_SHIFT_INLINE static void AddRun(
      const ChannelRun& run, const PixelSteps& steps, const HalfTile* halves,
      const char* bias, int64_t panel_bytes, int64_t ahead,
      Register (&sums)[kNumPixels][kVectors]) {
    const char* x_0 = BeginOf(run, halves[0]);
    const char* x_1 = BeginOf(run, halves[1]);
    const char* const x_end = x_0 + run.count * kWordBytes;
    const char* row = bias + (1 + run.first) * kRowBytes;
    for (; x_0 != x_end; x_0 += kWordBytes, x_1 += kWordBytes) {
      Register words[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        words[v] = Weights(row, panel_bytes, v);
      }
      __builtin_prefetch(row + ahead, 0, 2);
      row += kRowBytes;
      AddPart<kMasked, 0>(run.mask, x_0, x_1, steps, words, sums);
      if constexpr (Words::kParts == 2) {
        AddPart<kMasked, 1>(run.mask, x_0, x_1, steps, words, sums);
      }
    }
  }

  // Adds the products of a part of a word.
  template <bool kMasked, int kPart>
  KERAS_SHIFT_INLINE static void AddPart(
      uint32_t mask, const char* x_0, const char* x_1, const PixelSteps& steps,
      const Register (&words)[kVectors],
      Register (&sums)[kNumPixels][kVectors]) {
    Register weights[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      weights[v] = Factor<kMasked, kPart>(words[v], mask);
    }
#pragma GCC unroll 14
    for (int m = 0; m < kNumPixels; ++m) {
      const Register x = Factor<kMasked, kPart>(
          Words::Fill(m < kFirstHalf ? x_0 + steps.To(m)
                                     : x_1 + steps.To(m - kFirstHalf)),
          mask);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[m][v] = Words::MultiplyAdd(x, weights[v], sums[m][v]);
      }
    }
  }

  // What a product takes of words of x or of the matrix. Both are masked, since
  // a zero times what is no number would be none.
  template <bool kMasked, int kPart>
  KERAS_SHIFT_INLINE static Register Factor(Register words, uint32_t mask) {
    if constexpr (kMasked) words = Words::Mask(words, mask);
    return Words::template Part<kPart>(words);
  }

  // Where the run's channels of the first pixel of a half begin.
  KERAS_SHIFT_INLINE static const char* BeginOf(const ChannelRun& run,
                                                const HalfTile& half) {
    return static_cast<const char*>(half.x_rows[run.row]) +
           (half.x_offset + run.offset) * kWordBytes;
  }

  // Stores all columns. Of the four combinations of a ReLU and a residual, the
  // three that occur in networks have a loop each, which takes less time than
  // a decision for each register.
  KERAS_SHIFT_INLINE static void StoreWhole(
      const GemmParams& params, const HalfTile* halves, bool adds,
      const Register (&sums)[kNumPixels][kVectors]) {
    if constexpr (Words::kPairs) {
      if (params.y_is_wide) {
        ForEachRegister<typename Words::Wide>(
            params, halves, sums,
            [](Register sum, auto* y, const HalfTile&, int64_t) {
              Words::StoreWide(y, Words::Relu(sum));
            });
        return;
      }
    }
    if (params.relu) {
      ForEachRegister<float>(
          params, halves, sums,
          [](Register sum, float* y, const HalfTile&, int64_t) {
            Words::Store(y, Words::Relu(sum));
          });
    } else if (adds) {
      ForEachRegister<float>(
          params, halves, sums,
          [](Register sum, float* y, const HalfTile& half, int64_t residual) {
            Words::Store(y, sum + Words::Load(half.residual + residual));
          });
    } else {
      ForEachRegister<float>(params, halves, sums,
                             [](Register sum, float* y, const HalfTile&,
                                int64_t) { Words::Store(y, sum); });
    }
  }

  // Calls `store` with each register of sums, where it belongs in y, the half
  // that it belongs to, and where it belongs in the residual of that half.
  template <typename Element, typename Function>
  KERAS_SHIFT_INLINE static void ForEachRegister(
      const GemmParams& params, const HalfTile* halves,
      const Register (&sums)[kNumPixels][kVectors], Function store) {
#pragma GCC unroll 14
    for (int m = 0; m < kNumPixels; ++m) {
      const bool first = m < kFirstHalf;
      const int64_t in_half = first ? m : m - kFirstHalf;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const HalfTile& half = halves[first ? 0 : 1];
        char* const pixel = half.y + in_half * params.y_step * kWordBytes;
        store(sums[m][v], reinterpret_cast<Element*>(pixel) + v * kLanes, half,
              in_half * params.residual_step + v * kLanes);
      }
    }
  }

  // Stores the first columns only, or a ReLU plus a residual. The sums go
  // through memory, so that this rare code is not repeated for each register.
  KERAS_SHIFT_INLINE static void StorePart(
      const GemmParams& params, const HalfTile* halves, bool adds,
      int64_t columns, const Register (&sums)[kNumPixels][kVectors]) {
    Register spilled[kNumPixels][kVectors];
#pragma GCC unroll 14
    for (int m = 0; m < kNumPixels; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) spilled[m][v] = sums[m][v];
    }
#pragma GCC unroll 1
    for (int m = 0; m < kNumPixels; ++m) {
      const HalfTile& half = halves[m < kFirstHalf ? 0 : 1];
      const int in_half = m < kFirstHalf ? m : m - kFirstHalf;
      auto* const y =
          reinterpret_cast<float*>(half.y) + in_half * params.y_step;
      for (int v = 0; v < kVectors && v * kLanes < columns; ++v) {
        const int column = v * kLanes;
        const int64_t left = columns - column;
        const int64_t count = left < kLanes ? left : kLanes;
        Register sum = spilled[m][v];
        if (params.relu) sum = Words::Relu(sum);
        if (adds) {
          const int64_t at = in_half * params.residual_step + column;
          sum += Words::LoadFirst(half.residual + at, count);
        }
        Words::StoreFirst(y + column, sum, count);
      }
    }
  }
};

// Computes a tile of so many pixels, at most kMost, with the GemmTile of that
// number.
template <typename Words, int kMost, int kNumPanels>
inline void RunTile(int64_t pixels, const GemmParams& params,
                    const HalfTile* halves, const char* panel, int64_t columns,
                    int64_t ahead) {
  if constexpr (kMost > 1) {
    if (pixels < kMost) {
      RunTile<Words, kMost - 1, kNumPanels>(pixels, params, halves, panel,
                                            columns, ahead);
      return;
    }
  }
  GemmTile<Words, kMost, kNumPanels>::Run(params, halves, panel, columns,
                                          ahead);
}

// ---------------------------------------------------------------------------
// From tiles to rows and panels.

// The same as CeilDiv() of types.h, which objects of kernels must not include.
inline int64_t RoundedUpQuotient(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// The panels that are multiplied at a time.
struct PanelGroup {
  const char* panel;
  int64_t first_column;
  // The columns of the matrix from there on.
  int64_t columns;
  // The number of panels to prefetch: all rows will need them next, and they
  // may be in a slow cache. Each tile prefetches one of them.
  int64_t following;
  int64_t prefetched;
};

// Multiplies rows with kRows of them in a tile; num_rows is a multiple of
// kRows.
template <typename Words, int kNumPanels, int kRows>
void MultiplyRows(const GemmParams& params, const GemmRow* rows,
                  int64_t num_rows, int64_t width, PanelGroup* group) {
  constexpr int64_t kMost = Words::kPixels / kRows;
  const int64_t tiles = RoundedUpQuotient(width, kMost);
  // The widths of tiles differ by a pixel at most.
  const int64_t narrow = width / tiles;
  const int64_t wider = width % tiles;
  const int64_t panel_bytes = params.panel_size * kWordBytes;
  const int64_t y_step = params.y_step * kWordBytes;
  const int64_t y_offset =
      group->first_column *
      (params.y_is_wide ? sizeof(typename Words::Wide) : sizeof(float));
  int64_t j = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t tile_width = narrow + (tile < wider ? 1 : 0);
    const int64_t second = kRows == 1 ? j + (tile_width + 1) / 2 : j;
    for (int64_t r = 0; r < num_rows; r += kRows) {
      const auto half = [&](const GemmRow& row, int64_t column) {
        return HalfTile{
            .x_rows = row.x_rows,
            .x_offset = column * params.x_step,
            .y = static_cast<char*>(row.y) + column * y_step + y_offset,
            .residual = row.residual == nullptr
                            ? nullptr
                            : row.residual + column * params.residual_step +
                                  group->first_column};
      };
      const HalfTile halves[2] = {half(rows[r], j),
                                  half(rows[r + kRows - 1], second)};
      const int64_t ahead =
          group->prefetched < group->following
              ? (kNumPanels + group->prefetched++) * panel_bytes
              : 0;
      RunTile<Words, Words::kPixels, kNumPanels>(kRows * tile_width, params,
                                                 halves, group->panel,
                                                 group->columns, ahead);
    }
    j += tile_width;
  }
}

template <typename Words, int kNumPanels>
void MultiplyPanels(const GemmParams& params, const GemmRow* rows,
                    int64_t num_rows, int64_t width, int64_t panel,
                    int64_t last_panel) {
  constexpr int64_t kMost = Words::kPixels;
  const int64_t first_column = panel * kPanelColumns;
  const int64_t left = last_panel - panel - kNumPanels;
  PanelGroup group = {.panel = static_cast<const char*>(params.panels) +
                               panel * params.panel_size * kWordBytes,
                      .first_column = first_column,
                      .columns = params.columns - first_column,
                      .following = left < kNumPanels ? left : kNumPanels,
                      .prefetched = 0};
  // A tile spans two rows if that makes fewer tiles.
  const bool pairs =
      RoundedUpQuotient(width, kMost / 2) < 2 * RoundedUpQuotient(width, kMost);
  const int64_t paired = pairs ? num_rows - num_rows % 2 : 0;
  MultiplyRows<Words, kNumPanels, 2>(params, rows, paired, width, &group);
  MultiplyRows<Words, kNumPanels, 1>(params, rows + paired, num_rows - paired,
                                     width, &group);
}

template <typename Words>
void Multiply(const GemmParams& params, const GemmRow* rows, int64_t num_rows,
              int64_t width, int64_t first_panel, int64_t last_panel) {
  int64_t panel = first_panel;
  if constexpr (Words::kPanels == 2) {
    for (; panel + 2 <= last_panel; panel += 2) {
      MultiplyPanels<Words, 2>(params, rows, num_rows, width, panel,
                               last_panel);
    }
  }
  for (; panel < last_panel; ++panel) {
    MultiplyPanels<Words, 1>(params, rows, num_rows, width, panel, last_panel);
  }
}

// ---------------------------------------------------------------------------
// What a fused unit does before, between and after its two products.

template <typename Words>
void Round(const float* x, int64_t x_step, int64_t pixels, int64_t channels,
           void* y, int64_t y_step) {
  using Wide = typename Words::Wide;
  if (x_step == channels && 2 * y_step == channels) {
    channels *= pixels;
    pixels = 1;
  }
  auto* to = static_cast<Wide*>(y);
  for (int64_t p = 0; p < pixels; ++p, x += x_step, to += 2 * y_step) {
    int64_t c = 0;
    for (; c + Words::kLanes <= channels; c += Words::kLanes) {
      Words::StoreWide(to + c, Words::Load(x + c));
    }
    if (c < channels) {
      Words::StoreWide(to + c, Words::LoadFirst(x + c, channels - c));
    }
  }
}

template <typename Words>
void Pool(const void* upper, const void* lower, int64_t width, int64_t step,
          int64_t channels, int64_t y_width, void* y) {
  using Wide = typename Words::Wide;
  const auto* const upper_row = static_cast<const Wide*>(upper);
  const auto* const lower_row = static_cast<const Wide*>(lower);
  step *= kWordBytes / sizeof(Wide);
  for (int64_t j = 0; j < y_width; ++j) {
    // A column that does not exist is taken for a copy of its neighbour, which
    // leaves the average of the neighbour alone.
    const int64_t left = 2 * j * step;
    const int64_t right = 2 * j + 1 < width ? left + step : left;
    for (int64_t c = 0; c < channels; c += Words::kLanes) {
      const auto sum = (Words::LoadWide(upper_row + left + c) +
                        Words::LoadWide(upper_row + right + c)) +
                       (Words::LoadWide(lower_row + left + c) +
                        Words::LoadWide(lower_row + right + c));
      Words::StoreWide(static_cast<Wide*>(y) + j * step + c, sum * 0.25f);
    }
  }
}

template <typename Words>
void AddPixels(const void* x, int64_t step, int64_t pixels, int64_t channels,
               float* sums) {
  using Wide = typename Words::Wide;
  const auto* pixel = static_cast<const Wide*>(x);
  step *= kWordBytes / sizeof(Wide);
  for (int64_t p = 0; p < pixels; ++p, pixel += step) {
    for (int64_t c = 0; c < channels; c += Words::kLanes) {
      Words::Store(sums + c,
                   Words::Load(sums + c) + Words::LoadWide(pixel + c));
    }
  }
}

template <typename Simd>
void Copy(const float* x, int64_t x_step, int64_t pixels, int64_t channels,
          float* y, int64_t y_step) {
  for (int64_t p = 0; p < pixels; ++p, x += x_step, y += y_step) {
    int64_t c = 0;
    for (; c + Simd::kLanes <= channels; c += Simd::kLanes) {
      Simd::Store(y + c, Simd::Load(x + c));
    }
    if (c < channels) {
      const int64_t left = channels - c;
      Simd::StoreFirst(y + c, Simd::LoadFirst(x + c, left), left);
    }
  }
}

template <typename Simd>
constexpr GemmKernel MakeGemmKernel() {
  using Words = FloatWords<Simd>;
  return {.panels_per_tile = Words::kPanels,
          .multiply = Multiply<Words>,
          .pool = Pool<Words>,
          .add_pixels = AddPixels<Words>,
          .round = nullptr,
          .copy = Copy<Words>};
}

template <typename Words>
constexpr GemmKernel MakeBfloat16GemmKernel() {
  return {.panels_per_tile = Words::kPanels,
          .multiply = Multiply<Words>,
          .pool = Pool<Words>,
          .add_pixels = AddPixels<Words>,
          .round = Round<Words>,
          .copy = Copy<Words>};
}

#undef KERAS_SHIFT_INLINE
