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

// ---------------------------------------------------------------------------
// A tile: some pixels by the columns of a panel or two, whose sums stay in
// registers until all channels are added up.

// Half of the pixels of a tile, which follow each other in a row.
struct HalfTile {
  const float* const* x_rows;
  // Where the first pixel begins in these rows, in floats.
  int64_t x_offset;
  float* y;
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
template <typename Simd, int kNumPixels, int kNumPanels>
class GemmTile {
 public:
  // Computes the tile and writes its columns to y, `columns` of them at most.
  // The memory
  // that lies `ahead` bytes behind each row of the panel is prefetched.
  __attribute__((noinline)) static void Run(const GemmParams& params,
                                            const HalfTile* halves,
                                            const float* panel, int64_t columns,
                                            int64_t ahead) {
    Register sums[kNumPixels][kVectors];
    const auto* bias = reinterpret_cast<const char*>(panel);
    const int64_t panel_bytes = params.panel_size * sizeof(float);
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
  using Register = typename Simd::Register;
  static constexpr int kLanes = Simd::kLanes;
  static constexpr int kVectorsPerPanel = kPanelColumns / kLanes;
  static constexpr int kVectors = kNumPanels * kVectorsPerPanel;
  static constexpr int kFirstHalf = (kNumPixels + 1) / 2;
  static constexpr int64_t kRowBytes = kPanelColumns * sizeof(float);
  // The pragmas below unroll up to these numbers.
  static_assert(kFirstHalf <= kMostInHalf && kNumPixels <= 14 && kVectors <= 4);

  // Loads vector v of a row of the panels.
  KERAS_SHIFT_INLINE static Register Weights(const char* row,
                                             int64_t panel_bytes, int v) {
    return Simd::Load(row + (v / kVectorsPerPanel) * panel_bytes +
                      (v % kVectorsPerPanel) * kLanes * sizeof(float));
  }

  KERAS_SHIFT_INLINE static void StartWithBias(
      const char* bias, int64_t panel_bytes,
      Register (&sums)[kNumPixels][kVectors]) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Register value = Weights(bias, panel_bytes, v);
#pragma GCC unroll 14
      for (int m = 0; m < kNumPixels; ++m) sums[m][v] = value;
    }
  }

  KERAS_SHIFT_INLINE static void AddChannels(
      const GemmParams& params, const HalfTile* halves, const char* bias,
      int64_t panel_bytes, int64_t ahead,
      Register (&sums)[kNumPixels][kVectors]) {
    const int64_t step = params.x_step * sizeof(float);
    const PixelSteps steps = {step, 3 * step, 5 * step};
    const ChannelRun* const end = params.runs + params.num_runs;
    for (const ChannelRun* run = params.runs; run != end; ++run) {
      const char* x_0 = BeginOf(*run, halves[0]);
      const char* x_1 = BeginOf(*run, halves[1]);
      const char* const x_end = x_0 + run->count * sizeof(float);
      const char* row = bias + (1 + run->first) * kRowBytes;
      for (; x_0 != x_end; x_0 += sizeof(float), x_1 += sizeof(float)) {
        Register weights[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          weights[v] = Weights(row, panel_bytes, v);
        }
        __builtin_prefetch(row + ahead, 0, 2);
        row += kRowBytes;
#pragma GCC unroll 14
        for (int m = 0; m < kNumPixels; ++m) {
          const Register x =
              Simd::Fill(m < kFirstHalf ? x_0 + steps.To(m)
                                        : x_1 + steps.To(m - kFirstHalf));
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) {
            sums[m][v] = Simd::MultiplyAdd(x, weights[v], sums[m][v]);
          }
        }
      }
    }
  }

  // Where the run's channels of the first pixel of a half begin.
  KERAS_SHIFT_INLINE static const char* BeginOf(const ChannelRun& run,
                                                const HalfTile& half) {
    return reinterpret_cast<const char*>(half.x_rows[run.row] + half.x_offset +
                                         run.offset);
  }

  // Stores all columns. Of the four combinations of a ReLU and a residual, the
  // three that occur in networks have a loop each, which takes less time than
  // a decision for each register.
  KERAS_SHIFT_INLINE static void StoreWhole(
      const GemmParams& params, const HalfTile* halves, bool adds,
      const Register (&sums)[kNumPixels][kVectors]) {
    if (params.relu) {
      ForEachRegister(
          params, halves, sums,
          [](Register sum, const HalfTile& half, int64_t y, int64_t) {
            Simd::Store(half.y + y, Simd::Relu(sum));
          });
    } else if (adds) {
      ForEachRegister(
          params, halves, sums,
          [](Register sum, const HalfTile& half, int64_t y, int64_t residual) {
            Simd::Store(half.y + y, sum + Simd::Load(half.residual + residual));
          });
    } else {
      ForEachRegister(params, halves, sums,
                      [](Register sum, const HalfTile& half, int64_t y,
                         int64_t) { Simd::Store(half.y + y, sum); });
    }
  }

  // Calls `store` with each register of sums, the half that it belongs to, and
  // where it belongs in the y and in the residual of that half.
  template <typename Function>
  KERAS_SHIFT_INLINE static void ForEachRegister(
      const GemmParams& params, const HalfTile* halves,
      const Register (&sums)[kNumPixels][kVectors], Function store) {
#pragma GCC unroll 14
    for (int m = 0; m < kNumPixels; ++m) {
      const bool first = m < kFirstHalf;
      const int64_t in_half = first ? m : m - kFirstHalf;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        store(sums[m][v], halves[first ? 0 : 1],
              in_half * params.y_step + v * kLanes,
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
      float* const y = half.y + in_half * params.y_step;
      for (int v = 0; v < kVectors && v * kLanes < columns; ++v) {
        const int column = v * kLanes;
        const int64_t left = columns - column;
        const int64_t count = left < kLanes ? left : kLanes;
        Register sum = spilled[m][v];
        if (params.relu) sum = Simd::Relu(sum);
        if (adds) {
          const int64_t at = in_half * params.residual_step + column;
          sum += Simd::LoadFirst(half.residual + at, count);
        }
        Simd::StoreFirst(y + column, sum, count);
      }
    }
  }
};

// Computes a tile of so many pixels, at most kMost, with the GemmTile of that
// number.
template <typename Simd, int kMost, int kNumPanels>
inline void RunTile(int64_t pixels, const GemmParams& params,
                    const HalfTile* halves, const float* panel, int64_t columns,
                    int64_t ahead) {
  if constexpr (kMost > 1) {
    if (pixels < kMost) {
      RunTile<Simd, kMost - 1, kNumPanels>(pixels, params, halves, panel,
                                           columns, ahead);
      return;
    }
  }
  GemmTile<Simd, kMost, kNumPanels>::Run(params, halves, panel, columns, ahead);
}

// ---------------------------------------------------------------------------
// From tiles to rows and panels.

// The same as CeilDiv() of types.h, which objects of kernels must not include.
inline int64_t RoundedUpQuotient(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// The panels that are multiplied at a time.
struct PanelGroup {
  const float* panel;
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
template <typename Simd, int kNumPanels, int kRows>
void MultiplyRows(const GemmParams& params, const GemmRow* rows,
                  int64_t num_rows, int64_t width, PanelGroup* group) {
  constexpr int64_t kMost = Simd::kPixels / kRows;
  const int64_t tiles = RoundedUpQuotient(width, kMost);
  // The widths of tiles differ by a pixel at most.
  const int64_t narrow = width / tiles;
  const int64_t wider = width % tiles;
  const int64_t panel_bytes = params.panel_size * sizeof(float);
  int64_t j = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t tile_width = narrow + (tile < wider ? 1 : 0);
    const int64_t second = kRows == 1 ? j + (tile_width + 1) / 2 : j;
    for (int64_t r = 0; r < num_rows; r += kRows) {
      const auto half = [&](const GemmRow& row, int64_t column) {
        return HalfTile{
            .x_rows = row.x_rows,
            .x_offset = column * params.x_step,
            .y = row.y + column * params.y_step + group->first_column,
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
      RunTile<Simd, Simd::kPixels, kNumPanels>(kRows * tile_width, params,
                                               halves, group->panel,
                                               group->columns, ahead);
    }
    j += tile_width;
  }
}

template <typename Simd, int kNumPanels>
void MultiplyPanels(const GemmParams& params, const GemmRow* rows,
                    int64_t num_rows, int64_t width, int64_t panel,
                    int64_t last_panel) {
  constexpr int64_t kMost = Simd::kPixels;
  const int64_t first_column = panel * kPanelColumns;
  const int64_t left = last_panel - panel - kNumPanels;
  PanelGroup group = {.panel = params.panels + panel * params.panel_size,
                      .first_column = first_column,
                      .columns = params.columns - first_column,
                      .following = left < kNumPanels ? left : kNumPanels,
                      .prefetched = 0};
  // A tile spans two rows if that makes fewer tiles.
  const bool pairs =
      RoundedUpQuotient(width, kMost / 2) < 2 * RoundedUpQuotient(width, kMost);
  const int64_t paired = pairs ? num_rows - num_rows % 2 : 0;
  MultiplyRows<Simd, kNumPanels, 2>(params, rows, paired, width, &group);
  MultiplyRows<Simd, kNumPanels, 1>(params, rows + paired, num_rows - paired,
                                    width, &group);
}

template <typename Simd>
void Multiply(const GemmParams& params, const GemmRow* rows, int64_t num_rows,
              int64_t width, int64_t first_panel, int64_t last_panel) {
  int64_t panel = first_panel;
  if constexpr (Simd::kPanels == 2) {
    for (; panel + 2 <= last_panel; panel += 2) {
      MultiplyPanels<Simd, 2>(params, rows, num_rows, width, panel, last_panel);
    }
  }
  for (; panel < last_panel; ++panel) {
    MultiplyPanels<Simd, 1>(params, rows, num_rows, width, panel, last_panel);
  }
}

// ---------------------------------------------------------------------------
// What a fused unit does between its two products, and after them.

template <typename Simd>
void Pool(const float* upper, const float* lower, int64_t width, int64_t step,
          int64_t channels, int64_t y_width, float* y) {
  for (int64_t j = 0; j < y_width; ++j) {
    // A column that does not exist is taken for a copy of its neighbour, which
    // leaves the average of the neighbour alone.
    const int64_t left = 2 * j * step;
    const int64_t right = 2 * j + 1 < width ? left + step : left;
    for (int64_t c = 0; c < channels; c += Simd::kLanes) {
      const auto sum =
          (Simd::Load(upper + left + c) + Simd::Load(upper + right + c)) +
          (Simd::Load(lower + left + c) + Simd::Load(lower + right + c));
      Simd::Store(y + j * step + c, sum * 0.25f);
    }
  }
}

template <typename Simd>
void AddPixels(const float* x, int64_t step, int64_t pixels, int64_t channels,
               float* sums) {
  for (int64_t p = 0; p < pixels; ++p, x += step) {
    for (int64_t c = 0; c < channels; c += Simd::kLanes) {
      Simd::Store(sums + c, Simd::Load(sums + c) + Simd::Load(x + c));
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
  return {.panels_per_tile = Simd::kPanels,
          .multiply = Multiply<Simd>,
          .pool = Pool<Simd>,
          .add_pixels = AddPixels<Simd>,
          .copy = Copy<Simd>};
}

#undef KERAS_SHIFT_INLINE
