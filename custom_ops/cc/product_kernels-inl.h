// Multiplying pixels by a matrix, written once. Included after kernels-inl.h,
// whose rules it follows.
//
// A `Product` is
//
//   kLanes, Register: kLanes floats; a panel's columns are a multiple of them
//   kPixels: the most in a tile, an even number
//   kPanels: the most side by side, 1 or 2
//   Load(p), Store(p, r): of any alignment
//   LoadFirst(p, count), StoreFirst(p, r, count): of `count` floats
//   Fill(p): the float at p in all lanes
//   MultiplyAdd(a, b, sum)
//   Relu(r): of NaN it is NaN

template <int kCount>
struct PortableProduct {
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

// Half of the pixels of a tile; those of one half follow each other in a row.
struct HalfTile {
  const float* const* x;
  int64_t x_offset;
  float* y;
  const float* added;  // null in both, or in none
};

// Few enough for an address to be a base and a multiple of one of three
// registers, which is what x86-64 has.
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

// kPixels pixels by kPanels panels, of which `columns` columns are written.
// Memory that is so many bytes `ahead` of each row of a panel will be needed.
//
// All loops but those over channels are to be unrolled, so that sums stay in
// registers.
template <typename Product, int kPixels, int kPanels>
__attribute__((noinline)) void MultiplyTile(const PixelProduct& product,
                                            const HalfTile* halves,
                                            const float* panel, int64_t columns,
                                            int64_t ahead) {
  using Register = typename Product::Register;
  constexpr int kLanes = Product::kLanes;
  constexpr int kPerPanel = kPanelColumns / kLanes;
  constexpr int kVectors = kPanels * kPerPanel;
  constexpr int kFirstHalf = (kPixels + 1) / 2;
  static_assert(kFirstHalf <= kMostInHalf && kPixels <= 14 && kVectors <= 4);
  constexpr int64_t kRowBytes = kPanelColumns * sizeof(float);
  const int64_t panel_bytes = product.panel_size * sizeof(float);
  const auto weights_at = [=](const char* row, int v) {
    return Product::Load(row + (v / kPerPanel) * panel_bytes +
                         (v % kPerPanel) * kLanes * sizeof(float));
  };
  const char* const bias = reinterpret_cast<const char*>(panel);
  Register sums[kPixels][kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const Register value = weights_at(bias, v);
#pragma GCC unroll 14
    for (int m = 0; m < kPixels; ++m) sums[m][v] = value;
  }

  const int64_t step = product.x_step * sizeof(float);
  const PixelSteps steps = {step, 3 * step, 5 * step};
  const ChannelRun* const end = product.runs + product.num_runs;
  for (const ChannelRun* run = product.runs; run != end; ++run) {
    const auto begin = [&](const HalfTile& half) {
      return reinterpret_cast<const char*>(half.x[run->row] + half.x_offset +
                                           run->offset);
    };
    const char* x_0 = begin(halves[0]);
    const char* x_1 = begin(halves[1]);
    const char* const x_end = x_0 + run->count * sizeof(float);
    const char* row = bias + (1 + run->first) * kRowBytes;
    for (; x_0 != x_end; x_0 += sizeof(float), x_1 += sizeof(float)) {
      Register weights[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) weights[v] = weights_at(row, v);
      __builtin_prefetch(row + ahead, 0, 2);
      row += kRowBytes;
#pragma GCC unroll 14
      for (int m = 0; m < kPixels; ++m) {
        const Register x =
            Product::Fill(m < kFirstHalf ? x_0 + steps.To(m)
                                         : x_1 + steps.To(m - kFirstHalf));
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          sums[m][v] = Product::MultiplyAdd(x, weights[v], sums[m][v]);
        }
      }
    }
  }

  // Calls `write` for each register of sums, with the offsets of a place in y
  // and in what is added.
  const auto for_each = [&](auto write) {
#pragma GCC unroll 14
    for (int m = 0; m < kPixels; ++m) {
      const bool first = m < kFirstHalf;
      const int64_t in_half = first ? m : m - kFirstHalf;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        write(sums[m][v], halves[first ? 0 : 1],
              in_half * product.y_step + v * kLanes,
              in_half * product.added_step + v * kLanes);
      }
    }
  };
  const bool adds = halves[0].added != nullptr;
  if (columns >= kVectors * kLanes && !(adds && product.relu)) {
    // The three that are common; choosing once takes less time.
    if (product.relu) {
      for_each([](Register sum, const HalfTile& half, int64_t y, int64_t) {
        Product::Store(half.y + y, Product::Relu(sum));
      });
    } else if (adds) {
      for_each([](Register sum, const HalfTile& half, int64_t y, int64_t at) {
        Product::Store(half.y + y, sum + Product::Load(half.added + at));
      });
    } else {
      for_each([](Register sum, const HalfTile& half, int64_t y, int64_t) {
        Product::Store(half.y + y, sum);
      });
    }
    return;
  }
  // Otherwise by way of memory, so that it need not be written out for each.
  Register spilled[kPixels][kVectors];
#pragma GCC unroll 14
  for (int m = 0; m < kPixels; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) spilled[m][v] = sums[m][v];
  }
#pragma GCC unroll 1
  for (int m = 0; m < kPixels; ++m) {
    const HalfTile& half = halves[m < kFirstHalf ? 0 : 1];
    const int in_half = m < kFirstHalf ? m : m - kFirstHalf;
    float* const y = half.y + in_half * product.y_step;
    for (int v = 0; v < kVectors && v * kLanes < columns; ++v) {
      const int column = v * kLanes;
      const int64_t left = columns - column;
      const int64_t count = left < kLanes ? left : kLanes;
      Register sum = spilled[m][v];
      if (product.relu) sum = Product::Relu(sum);
      if (adds) {
        const int64_t at = in_half * product.added_step + column;
        sum += Product::LoadFirst(half.added + at, count);
      }
      Product::StoreFirst(y + column, sum, count);
    }
  }
}

// The tile of so many pixels, at most kMost.
template <typename Product, int kMost, int kPanels>
inline void MultiplyTileOf(int64_t pixels, const PixelProduct& product,
                           const HalfTile* halves, const float* panel,
                           int64_t columns, int64_t ahead) {
  if constexpr (kMost > 1) {
    if (pixels < kMost) {
      MultiplyTileOf<Product, kMost - 1, kPanels>(pixels, product, halves,
                                                  panel, columns, ahead);
      return;
    }
  }
  MultiplyTile<Product, kMost, kPanels>(product, halves, panel, columns, ahead);
}

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The panels that a product has come to.
struct PanelGroup {
  const float* panel;
  int64_t first_column;
  int64_t columns;  // from there on
  // Panels to ask for in advance: all rows will need them before long, and they
  // may be in a slow cache. A tile takes care of one panel.
  int64_t following;
  int64_t asked_for;
};

// Multiplies rows, kRows of them in a tile; how many there are is a multiple of
// it.
template <typename Product, int kPanels, int kRows>
void MultiplyRows(const PixelProduct& product, const PixelRow* rows,
                  int64_t num_rows, int64_t width, PanelGroup* group) {
  constexpr int64_t kMost = Product::kPixels / kRows;
  const int64_t tiles = CeilDiv(width, kMost);
  // Of about the same width.
  const int64_t narrow = width / tiles;
  const int64_t wider = width % tiles;
  const int64_t panel_bytes = product.panel_size * sizeof(float);
  int64_t j = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t tile_width = narrow + (tile < wider ? 1 : 0);
    const int64_t second = kRows == 1 ? j + (tile_width + 1) / 2 : j;
    for (int64_t r = 0; r < num_rows; r += kRows) {
      const auto half = [&](const PixelRow& row, int64_t column) {
        return HalfTile{row.x, column * product.x_step,
                        row.y + column * product.y_step + group->first_column,
                        row.added == nullptr
                            ? nullptr
                            : row.added + column * product.added_step +
                                  group->first_column};
      };
      const HalfTile halves[2] = {half(rows[r], j),
                                  half(rows[r + kRows - 1], second)};
      const int64_t ahead = group->asked_for < group->following
                                ? (kPanels + group->asked_for++) * panel_bytes
                                : 0;
      MultiplyTileOf<Product, Product::kPixels, kPanels>(
          kRows * tile_width, product, halves, group->panel, group->columns,
          ahead);
    }
    j += tile_width;
  }
}

template <typename Product, int kPanels>
void MultiplyPanels(const PixelProduct& product, const PixelRow* rows,
                    int64_t num_rows, int64_t width, int64_t panel,
                    int64_t last_panel) {
  constexpr int64_t kMost = Product::kPixels;
  const int64_t first_column = panel * kPanelColumns;
  const int64_t left = last_panel - panel - kPanels;
  PanelGroup group = {product.panels + panel * product.panel_size, first_column,
                      product.columns - first_column,
                      left < kPanels ? left : kPanels, 0};
  // Two rows together, if that makes fewer tiles of them.
  const bool pairs = CeilDiv(width, kMost / 2) < 2 * CeilDiv(width, kMost);
  const int64_t paired = pairs ? num_rows - num_rows % 2 : 0;
  MultiplyRows<Product, kPanels, 2>(product, rows, paired, width, &group);
  MultiplyRows<Product, kPanels, 1>(product, rows + paired, num_rows - paired,
                                    width, &group);
}

template <typename Product>
void Multiply(const PixelProduct& product, const PixelRow* rows,
              int64_t num_rows, int64_t width, int64_t first_panel,
              int64_t last_panel) {
  int64_t panel = first_panel;
  if constexpr (Product::kPanels == 2) {
    for (; panel + 2 <= last_panel; panel += 2) {
      MultiplyPanels<Product, 2>(product, rows, num_rows, width, panel,
                                 last_panel);
    }
  }
  for (; panel < last_panel; ++panel) {
    MultiplyPanels<Product, 1>(product, rows, num_rows, width, panel,
                               last_panel);
  }
}

template <typename Product>
void Pool(const float* upper, const float* lower, int64_t width, int64_t step,
          int64_t channels, int64_t y_width, float* y) {
  for (int64_t j = 0; j < y_width; ++j) {
    // A pixel that does not exist leaves the average of the others alone if it
    // is taken for a copy of its neighbour.
    const int64_t left = 2 * j * step;
    const int64_t right = 2 * j + 1 < width ? left + step : left;
    for (int64_t c = 0; c < channels; c += Product::kLanes) {
      const auto sum =
          (Product::Load(upper + left + c) + Product::Load(upper + right + c)) +
          (Product::Load(lower + left + c) + Product::Load(lower + right + c));
      Product::Store(y + j * step + c, sum * 0.25f);
    }
  }
}

template <typename Product>
void Copy(const float* x, int64_t x_step, int64_t pixels, int64_t channels,
          float* y, int64_t y_step) {
  for (int64_t p = 0; p < pixels; ++p, x += x_step, y += y_step) {
    int64_t c = 0;
    for (; c + Product::kLanes <= channels; c += Product::kLanes) {
      Product::Store(y + c, Product::Load(x + c));
    }
    if (c < channels) {
      const int64_t left = channels - c;
      Product::StoreFirst(y + c, Product::LoadFirst(x + c, left), left);
    }
  }
}

template <typename Product>
constexpr ProductKernel MakeProductKernel() {
  return {Product::kPanels, Multiply<Product>, Pool<Product>, Copy<Product>};
}
