// Compares fused units with plain loops in double: shapes that fit no tile,
// displacements of any size, strides, pooling, matrices in float32 and in
// bfloat16, every instruction set that this machine has, and several numbers of
// threads and callers.

#include "custom_ops/cc/fused_unit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "custom_ops/cc/testing.h"

namespace keras_shift {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Matrix {
  int64_t rows;
  int64_t columns;
  std::vector<float> values;
  std::vector<float> bias;
};

// The upper half of the nearest bfloat16, from half of the way the even one.
uint16_t Bfloat16(double value) {
  const float exact = static_cast<float>(value);
  const uint32_t bits = std::bit_cast<uint32_t>(exact);
  if (std::isinf(exact)) return bits >> 16;
  const auto number = [](uint32_t upper) {
    return static_cast<double>(std::bit_cast<float>(upper << 16));
  };
  const uint32_t below = bits >> 16;
  const double to_below = std::abs(value - number(below));
  const double to_above = std::abs(value - number(below + 1));
  return to_below < to_above || (to_below == to_above && below % 2 == 0)
             ? below
             : below + 1;
}

double Rounded(double value) {
  return std::bit_cast<float>(uint32_t{Bfloat16(value)} << 16);
}

// Stores a matrix in panels of pairs of bfloat16, with NaN where nothing may
// depend on it.
Floats PackedPairs(const Matrix& matrix) {
  const int64_t pairs = 1 + (matrix.rows + 1) / 2;
  Floats packed((matrix.columns + 15) / 16 * pairs * 16);
  std::fill_n(packed.data.get(), packed.size, std::bit_cast<float>(0x7fc07fc0));
  auto* const numbers = reinterpret_cast<unsigned char*>(packed.data.get());
  for (int64_t c = 0; c < matrix.columns; ++c) {
    const auto put = [&](int64_t pair, int64_t place, double value) {
      const uint16_t number = Bfloat16(value);
      const int64_t word = (c / 16 * pairs + pair) * 16 + c % 16;
      std::memcpy(numbers + 4 * word + 2 * place, &number, sizeof(number));
    };
    put(0, 0, matrix.bias[c]);
    put(0, 1, matrix.bias[c] - Rounded(matrix.bias[c]));
    for (int64_t r = 0; r < matrix.rows; ++r) {
      put(1 + r / 2, r % 2, matrix.values[r * matrix.columns + c]);
    }
  }
  return packed;
}

// Stores a matrix in panels, with NaN where nothing may depend on it.
Floats Packed(const Matrix& matrix, bool bfloat16 = false) {
  if (bfloat16) return PackedPairs(matrix);
  const int64_t panels = (matrix.columns + 15) / 16;
  Floats packed(panels * (1 + matrix.rows) * 16);
  std::fill_n(packed.data.get(), packed.size, kNan);
  for (int64_t c = 0; c < matrix.columns; ++c) {
    float* column =
        packed.data.get() + c / 16 * (1 + matrix.rows) * 16 + c % 16;
    column[0] = matrix.bias[c];
    for (int64_t r = 0; r < matrix.rows; ++r) {
      column[(1 + r) * 16] = matrix.values[r * matrix.columns + c];
    }
  }
  return packed;
}

struct Case {
  ImageShape shape;
  FusedUnit unit;
  std::vector<int32_t> displacements;
};

std::string Text(const Case& c) {
  std::string text = "unit";
  const auto add = [&](const char* name, int64_t value) {
    text += std::string(" ") + name + "=" + std::to_string(value);
  };
  add("batch", c.shape.batch);
  add("height", c.shape.height);
  add("width", c.shape.width);
  add("channels", c.shape.channels);
  add("expanded", c.unit.expanded);
  add("hidden", c.unit.hidden);
  add("filters", c.unit.filters);
  add("strides", c.unit.strides[0]);
  add("and", c.unit.strides[1]);
  add("pooling", static_cast<int64_t>(c.unit.pooling));
  add("relu", c.unit.relu);
  add("residual", c.unit.residual);
  add("bfloat16", c.unit.bfloat16);
  return text;
}

struct Inputs {
  Floats x;
  Matrix expand;
  Matrix project;
  Floats expand_panels;
  Floats project_panels;
};

std::vector<float> Random(int64_t size, double scale, std::mt19937* random) {
  std::uniform_real_distribution<float> reals(-scale, scale);
  std::vector<float> values(size);
  for (float& value : values) value = reals(*random);
  return values;
}

std::vector<float> RandomWhole(int64_t size, double most,
                               std::mt19937* random) {
  std::vector<float> values = Random(size, most + 0.5, random);
  for (float& value : values) value = std::round(value);
  return values;
}

// With bfloat16, the numbers are whole, and so small that no sum is rounded: in
// whatever order it is taken, the result is the same to the bit.
Inputs DrawInputs(const Case& c, std::mt19937* random) {
  const FusedUnit& unit = c.unit;
  const auto draw = [&](int64_t size, double most_if_whole) {
    return unit.bfloat16 ? RandomWhole(size, most_if_whole, random)
                         : Random(size, 1, random);
  };
  Matrix expand = {.rows = unit.expanded,
                   .columns = unit.hidden,
                   .values = draw(unit.expanded * unit.hidden, 3),
                   .bias = draw(unit.hidden, 1000)};
  Matrix project = {.rows = unit.hidden,
                    .columns = unit.filters,
                    .values = draw(unit.hidden * unit.filters, 3),
                    .bias = draw(unit.filters, 1000)};
  Floats x(NumElements(c.shape));
  const std::vector<float> values = draw(x.size, 1000);
  std::copy(values.begin(), values.end(), x.data.get());
  Floats expand_panels = Packed(expand, unit.bfloat16);
  Floats project_panels = Packed(project, unit.bfloat16);
  return {std::move(x), std::move(expand), std::move(project),
          std::move(expand_panels), std::move(project_panels)};
}

// The unit as fused_unit.h has it, in double. `scale` gets the sums of absolute
// values, against which rounding errors are to be measured.
void Expected(const Case& c, const Inputs& in, const ImageShape& y_shape,
              std::vector<double>* y, std::vector<double>* scale) {
  const ImageShape& s = c.shape;
  const FusedUnit& unit = c.unit;
  const auto rounded = [&](double value) {
    return unit.bfloat16 ? Rounded(value) : value;
  };
  std::vector<double> wide(s.batch * s.height * s.width * unit.hidden);
  std::vector<double> wide_scale(wide.size());
  for (int64_t p = 0; p < s.batch * s.height * s.width; ++p) {
    for (int64_t e = 0; e < unit.hidden; ++e) {
      double sum = in.expand.bias[e];
      double sum_scale = std::abs(sum);
      for (int64_t k = 0; k < unit.expanded; ++k) {
        const double product = rounded(in.x.data[p * s.channels + k]) *
                               in.expand.values[k * unit.hidden + e];
        sum += product;
        sum_scale += std::abs(product);
      }
      wide[p * unit.hidden + e] = rounded(std::max(sum, 0.0));
      wide_scale[p * unit.hidden + e] = sum_scale;
    }
  }
  // Returns a value of image n, at a place that need not be inside.
  const auto at = [&](const std::vector<double>& values, int64_t n, int64_t i,
                      int64_t j, int64_t e) {
    if (i < 0 || i >= s.height || j < 0 || j >= s.width) return 0.0;
    return values[((n * s.height + i) * s.width + j) * unit.hidden + e];
  };
  const auto moved = [&](const std::vector<double>& values, int64_t n,
                         int64_t i, int64_t j, int64_t e) {
    if (unit.pooling == Pooling::kNone) {
      return at(values, n, i + c.displacements[e],
                j + c.displacements[unit.hidden + e], e);
    }
    if (unit.pooling == Pooling::kGlobal) {
      double sum = 0;
      for (int64_t row = 0; row < s.height; ++row) {
        for (int64_t column = 0; column < s.width; ++column) {
          sum += at(values, n, row, column, e);
        }
      }
      return rounded(sum / (s.height * s.width));
    }
    const double count =
        (2 * i + 1 < s.height ? 2 : 1) * (2 * j + 1 < s.width ? 2 : 1);
    return rounded((at(values, n, 2 * i, 2 * j, e) +
                    at(values, n, 2 * i, 2 * j + 1, e) +
                    at(values, n, 2 * i + 1, 2 * j, e) +
                    at(values, n, 2 * i + 1, 2 * j + 1, e)) /
                   count);
  };
  y->clear();
  scale->clear();
  for (int64_t n = 0; n < y_shape.batch; ++n) {
    for (int64_t i = 0; i < y_shape.height; ++i) {
      for (int64_t j = 0; j < y_shape.width; ++j) {
        const float* x =
            in.x.data.get() + ((n * s.height + i) * s.width + j) * s.channels;
        for (int64_t f = 0; f < unit.filters; ++f) {
          double sum = in.project.bias[f];
          double sum_scale = std::abs(sum);
          for (int64_t e = 0; e < unit.hidden; ++e) {
            const double weight = in.project.values[e * unit.filters + f];
            const int64_t from_i = i * unit.strides[0];
            const int64_t from_j = j * unit.strides[1];
            sum += weight * moved(wide, n, from_i, from_j, e);
            sum_scale +=
                std::abs(weight) * moved(wide_scale, n, from_i, from_j, e);
          }
          if (unit.relu) sum = std::max(sum, 0.0);
          if (unit.residual) sum += x[f];
          y->push_back(sum);
          scale->push_back(sum_scale + (unit.residual ? std::abs(x[f]) : 0));
        }
        for (int64_t k = unit.expanded; k < s.channels; ++k) {
          y->push_back(x[k]);
          scale->push_back(0);
        }
      }
    }
  }
}

Floats Run(const Case& c, const Inputs& in, int64_t threads) {
  ImageShape y_shape;
  Status status = FusedUnitShape(c.shape, c.unit, &y_shape);
  Check(status.ok(), Text(c) + ": " + status.message());
  Floats y(NumElements(y_shape));
  std::fill_n(y.data.get(), y.size, kNan);
  status =
      FusedUnit2D(c.shape, c.unit, in.x.data.get(), in.expand_panels.data.get(),
                  in.project_panels.data.get(), c.displacements.data(), threads,
                  y.data.get());
  Check(status.ok(), Text(c) + ": " + status.message());
  return y;
}

// What sums are off by at most, as a share of the sum of absolute values. Means
// over all pixels may round to the neighbour among the numbers of bfloat16.
double EpsilonOf(const FusedUnit& unit) {
  if (!unit.bfloat16) return std::numeric_limits<float>::epsilon();
  return unit.pooling == Pooling::kGlobal ? 0x1p-8 : 0;
}

void TestCase(const Case& c, std::mt19937* random) {
  const Inputs in = DrawInputs(c, random);
  ImageShape y_shape;
  Check(FusedUnitShape(c.shape, c.unit, &y_shape).ok(), Text(c));
  std::vector<double> expected, scale;
  Expected(c, in, y_shape, &expected, &scale);
  const Floats y = Run(c, in, 1);
  Check(y.size == static_cast<int64_t>(expected.size()), Text(c) + ": size");
  const double epsilon = EpsilonOf(c.unit);
  int64_t wrong = 0;
  for (int64_t k = 0; k < y.size; ++k) {
    if (y.data[k] == expected[k]) continue;
    const double error = std::abs(y.data[k] - expected[k]);
    // This way round, NaN is wrong as well.
    if (!(error <= 4 * epsilon * scale[k])) ++wrong;
  }
  Check(wrong == 0, Text(c) + ": " + std::to_string(wrong) + " wrong values");
  for (int64_t threads : {2, 5}) {
    Check(SameBits(Run(c, in, threads), y),
          Text(c) + ": other bits on " + std::to_string(threads) + " threads");
  }
}

// ---------------------------------------------------------------------------
// What is drawn.

enum class Moves { kNone, kSorted, kSmall, kLarge, kExtreme, kRowsOnly, kAway };

std::vector<int32_t> DrawDisplacements(Moves moves, int64_t channels,
                                       std::mt19937* random) {
  constexpr int32_t kExtremes[] = {std::numeric_limits<int32_t>::min(),
                                   std::numeric_limits<int32_t>::max(),
                                   1 << 30,
                                   0,
                                   -1,
                                   1};
  std::vector<std::pair<int32_t, int32_t>> pairs(channels);
  for (auto& pair : pairs) {
    for (int32_t* d : {&pair.first, &pair.second}) {
      switch (moves) {
        case Moves::kNone:
          *d = 0;
          break;
        case Moves::kSorted:
        case Moves::kSmall:
          *d = Draw(0, 4, random) < 3 ? 0 : Draw(0, 2, random) - 1;
          break;
        case Moves::kLarge:
          *d = Draw(-12, 12, random);
          break;
        case Moves::kExtreme:
          *d = kExtremes[Draw(0, 5, random)];
          break;
        case Moves::kRowsOnly:
          *d = d == &pair.first ? Draw(0, 1, random) * 2 : 0;
          break;
        case Moves::kAway:
          *d = 1000;
          break;
      }
    }
  }
  if (moves == Moves::kSorted) std::sort(pairs.begin(), pairs.end());
  std::vector<int32_t> displacements(2 * channels);
  for (int64_t c = 0; c < channels; ++c) {
    displacements[c] = pairs[c].first;
    displacements[channels + c] = pairs[c].second;
  }
  return displacements;
}

Case DrawCase(std::mt19937* random) {
  Case c;
  c.shape = {.batch = Draw(1, 3, random),
             .height = Draw(1, 17, random),
             .width = Draw(1, 33, random),
             .channels = Draw(1, 40, random)};
  FusedUnit& unit = c.unit;
  unit.expanded = c.shape.channels;
  unit.hidden = Draw(1, 70, random);
  unit.filters = Draw(1, 70, random);
  unit.relu = Draw(0, 1, random);
  switch (Draw(0, 6, random)) {
    case 6:
      unit.pooling = Pooling::kGlobal;
      break;
    case 0:
      unit.pooling = Pooling::kValid;
      break;
    case 1:
      unit.pooling = Pooling::kSame;
      break;
    case 2:
      unit.strides[0] = Draw(1, 3, random);
      unit.strides[1] = Draw(1, 3, random);
      break;
    case 3:
      unit.residual = true;
      unit.filters = unit.expanded;
      break;
    case 4:
      unit.expanded = Draw(1, c.shape.channels, random);
      unit.residual = Draw(0, 1, random);
      if (unit.residual) unit.filters = unit.expanded;
      break;
  }
  if (unit.pooling == Pooling::kValid || unit.pooling == Pooling::kSame) {
    unit.strides[0] = Draw(1, 4, random) == 1 ? 2 : 1;
    unit.strides[1] = Draw(1, 4, random) == 1 ? 3 : 1;
  }
  const Moves moves = unit.pooling != Pooling::kNone
                          ? Moves::kNone
                          : static_cast<Moves>(Draw(0, 6, random));
  c.displacements = DrawDisplacements(moves, unit.hidden, random);
  return c;
}

void TestRandom() {
  std::mt19937 random(kSeed);
  for (int k = 0; k < 120; ++k) {
    Case c = DrawCase(&random);
    TestCase(c, &random);
    c.unit.bfloat16 = true;
    TestCase(c, &random);
  }
}

// These cases make sure that each of the following occurs: bands that roll
// through the buffer, bands of several threads, phases, long rows, a pixel
// alone, and pixels that are far apart.
void TestChosen() {
  std::mt19937 random(kSeed);
  const auto test = [&](const ImageShape& shape, FusedUnit unit, Moves moves) {
    for (bool bfloat16 : {false, true}) {
      unit.bfloat16 = bfloat16;
      TestCase({shape, unit, DrawDisplacements(moves, unit.hidden, &random)},
               &random);
    }
  };
  test({.batch = 1, .height = 41, .width = 60, .channels = 9},
       {.expanded = 9, .hidden = 100, .filters = 5}, Moves::kSorted);
  test({.batch = 1, .height = 70, .width = 60, .channels = 9},
       {.expanded = 9,
        .hidden = 80,
        .filters = 5,
        .strides = {2, 2},
        .relu = true},
       Moves::kSmall);
  test({.batch = 1, .height = 90, .width = 67, .channels = 4},
       {.expanded = 4,
        .hidden = 50,
        .filters = 5,
        .strides = {3, 1},
        .relu = true},
       Moves::kLarge);
  test({.batch = 1, .height = 70, .width = 60, .channels = 8},
       {.expanded = 8, .hidden = 64, .filters = 5, .pooling = Pooling::kValid},
       Moves::kNone);
  test({.batch = 1, .height = 75, .width = 61, .channels = 8},
       {.expanded = 8, .hidden = 64, .filters = 5, .pooling = Pooling::kSame},
       Moves::kNone);
  test({.batch = 1, .height = 14, .width = 14, .channels = 40},
       {.expanded = 40, .hidden = 256, .filters = 72}, Moves::kSorted);
  test({.batch = 2, .height = 7, .width = 7, .channels = 40},
       {.expanded = 40,
        .hidden = 300,
        .filters = 40,
        .relu = true,
        .residual = true},
       Moves::kSmall);
  test(
      {.batch = 1, .height = 15, .width = 14, .channels = 40},
      {.expanded = 40, .hidden = 256, .filters = 72, .pooling = Pooling::kSame},
      Moves::kNone);
  // More rows than are expanded at once, and more images than threads.
  test({.batch = 1, .height = 140, .width = 24, .channels = 4},
       {.expanded = 4,
        .hidden = 250,
        .filters = 33,
        .pooling = Pooling::kGlobal},
       Moves::kNone);
  test({.batch = 23, .height = 5, .width = 4, .channels = 8},
       {.expanded = 8,
        .hidden = 256,
        .filters = 40,
        .pooling = Pooling::kGlobal,
        .relu = true},
       Moves::kNone);
  test({.batch = 1, .height = 14, .width = 14, .channels = 60},
       {.expanded = 20, .hidden = 128, .filters = 20, .residual = true},
       Moves::kSmall);
  test({.batch = 1, .height = 1, .width = 1, .channels = 1},
       {.expanded = 1, .hidden = 1, .filters = 1}, Moves::kSmall);
  test({.batch = 1, .height = 1, .width = 1, .channels = 3},
       {.expanded = 3, .hidden = 5, .filters = 3, .residual = true},
       Moves::kAway);
  test({.batch = 1, .height = 1, .width = 1, .channels = 3},
       {.expanded = 3,
        .hidden = 5,
        .filters = 3,
        .strides = {2, 2},
        .pooling = Pooling::kSame},
       Moves::kNone);
  test({.batch = 2, .height = 9, .width = 9, .channels = 3},
       {.expanded = 3, .hidden = 20, .filters = 17, .strides = {4, 5}},
       Moves::kRowsOnly);
  test({.batch = 1, .height = 2, .width = 300, .channels = 3},
       {.expanded = 3, .hidden = 33, .filters = 4, .strides = {1, 7}},
       Moves::kSmall);
}

// Callers at the same time must get the result of a single one.
void TestSeveralCallers() {
  std::mt19937 random(kSeed);
  const Case c = {
      {.batch = 2, .height = 20, .width = 21, .channels = 12},
      {.expanded = 12, .hidden = 70, .filters = 12, .residual = true},
      DrawDisplacements(Moves::kSmall, 70, &random)};
  const Inputs in = DrawInputs(c, &random);
  const Floats expected = Run(c, in, 1);
  ImageShape y_shape;
  Check(FusedUnitShape(c.shape, c.unit, &y_shape).ok(), "shape");
  bool same[4] = {};
  std::vector<std::thread> callers;
  for (bool& ok : same) {
    callers.emplace_back([&] {
      ok = true;
      for (int turn = 0; turn < 20; ++turn) {
        Floats y(expected.size);
        ok = ok &&
             FusedUnit2D(c.shape, c.unit, in.x.data.get(),
                         in.expand_panels.data.get(),
                         in.project_panels.data.get(), c.displacements.data(),
                         1 + turn % 3, y.data.get())
                 .ok() &&
             SameBits(y, expected);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (bool ok : same) Check(ok, "several callers");
}

// Helpers must treat subnormal numbers as their caller does.
void TestSubnormals() {
#if defined(__SSE2__)
  std::mt19937 random(kSeed);
  const Case c = {{.batch = 1, .height = 30, .width = 30, .channels = 16},
                  {.expanded = 16, .hidden = 96, .filters = 16},
                  DrawDisplacements(Moves::kSmall, 96, &random)};
  Inputs in = DrawInputs(c, &random);
  for (int64_t k = 0; k < in.x.size; ++k) in.x.data[k] *= 1e-39f;
  for (float* bias :
       {in.expand_panels.data.get(), in.project_panels.data.get()}) {
    const int64_t rows = 1 + (bias == in.expand_panels.data.get() ? 16 : 96);
    const int64_t panels = bias == in.expand_panels.data.get() ? 6 : 1;
    for (int64_t p = 0; p < panels; ++p)
      std::fill_n(bias + p * rows * 16, 16, 0.0f);
  }
  const Floats kept = Run(c, in, 1);
  const unsigned before = _mm_getcsr();
  // TensorFlow's threads are set like this.
  _mm_setcsr(before | 0x8040);
  const Floats one = Run(c, in, 1);
  const Floats two = Run(c, in, 5);
  _mm_setcsr(before);
  Check(!SameBits(kept, one), "subnormal numbers taken for zero");
  Check(SameBits(one, two), "subnormal numbers in helpers");
#endif
}

// ---------------------------------------------------------------------------
// Arguments.

void TestNotANumber(bool bfloat16) {
  const Case c = {{.batch = 1, .height = 1, .width = 2, .channels = 1},
                  {.expanded = 1,
                   .hidden = 1,
                   .filters = 1,
                   .relu = true,
                   .bfloat16 = bfloat16},
                  {0, 0}};
  const Matrix one = {.rows = 1, .columns = 1, .values = {1}, .bias = {0}};
  Inputs in = {Floats(2), one, one, Packed(one, bfloat16),
               Packed(one, bfloat16)};
  in.x.data[0] = kNan;
  in.x.data[1] = std::numeric_limits<float>::infinity();
  const Floats y = Run(c, in, 1);
  Check(std::isnan(y.data[0]), "relu(NaN) is NaN");
  Check(y.data[1] == in.x.data[1], "relu(infinity) is infinity");
}

// A channel of a pair must not meet the pixel that only the other one is read
// from.
void TestInfinityStaysInItsChannel() {
  std::mt19937 random(kSeed);
  Case c = {{.batch = 1, .height = 5, .width = 6, .channels = 7},
            {.expanded = 7, .hidden = 9, .filters = 20, .bfloat16 = true},
            {0, 0, 0, 1, 1, 1, 2, -1, -1, 0, 1, -1, 0, 0, 0, 0, 2, 1}};
  Inputs in = DrawInputs(c, &random);
  // Weights of zero would make NaNs of infinity, rightly.
  for (Matrix* matrix : {&in.expand, &in.project}) {
    for (float& value : matrix->values) value = 1 + std::abs(value);
  }
  in.expand_panels = Packed(in.expand, true);
  in.project_panels = Packed(in.project, true);
  in.x.data[7 * 15 + 2] = std::numeric_limits<float>::infinity();
  ImageShape y_shape;
  Check(FusedUnitShape(c.shape, c.unit, &y_shape).ok(), "shape");
  std::vector<double> expected, scale;
  Expected(c, in, y_shape, &expected, &scale);
  const Floats y = Run(c, in, 1);
  Check(std::equal(expected.begin(), expected.end(), y.data.get()),
        "infinity stays in its channel");
}

void TestEmpty() {
  for (const ImageShape& shape :
       {ImageShape{.batch = 0, .height = 2, .width = 3, .channels = 4},
        ImageShape{.batch = 1, .height = 0, .width = 3, .channels = 4},
        ImageShape{.batch = 1, .height = 2, .width = 0, .channels = 4}}) {
    for (Pooling pooling : {Pooling::kNone, Pooling::kValid, Pooling::kSame}) {
      const FusedUnit unit = {
          .expanded = 4, .hidden = 2, .filters = 3, .pooling = pooling};
      const int32_t d[4] = {};
      Check(FusedUnit2D(shape, unit, nullptr, nullptr, nullptr, d, 0, nullptr)
                .ok(),
            "empty image");
    }
  }
  ImageShape y_shape;
  const FusedUnit unit = {
      .expanded = 4, .hidden = 2, .filters = 3, .pooling = Pooling::kValid};
  Check(FusedUnitShape({.batch = 2, .height = 1, .width = 7, .channels = 4},
                       unit, &y_shape)
                .ok() &&
            y_shape.batch == 2 && y_shape.height == 0 && y_shape.width == 3 &&
            y_shape.channels == 3,
        "nothing is left of a row");
}

void TestArguments() {
  const ImageShape shape = {.batch = 1, .height = 2, .width = 2, .channels = 3};
  const FusedUnit good = {.expanded = 3, .hidden = 2, .filters = 3};
  const int32_t d[4] = {0, 0, 0, 1};
  float y[12] = {};
  const auto call = [&](const ImageShape& image, const FusedUnit& unit,
                        int64_t threads) {
    return FusedUnit2D(image, unit, y, y, y, d, threads, y);
  };
  const auto with = [&](auto change) {
    FusedUnit unit = good;
    change(&unit);
    ImageShape y_shape;
    const Status status = FusedUnitShape(shape, unit, &y_shape);
    Check(call(shape, unit, 0).message() == status.message(), "same status");
    return status;
  };
  CheckRefused(
      call({.batch = 1, .height = -2, .width = 2, .channels = 3}, good, 0),
      "`x`");
  CheckRefused(
      call({.batch = 1ll << 40, .height = 1ll << 40, .width = 2, .channels = 3},
           good, 0),
      "`x`");
  CheckRefused(call(shape, good, -1), "num_threads=-1");
  CheckRefused(call(shape, good, kMaxThreads + 1), "`num_threads`");
  CheckRefused(with([](FusedUnit* u) { u->expanded = 0; }), "k=0");
  CheckRefused(with([](FusedUnit* u) { u->expanded = 4; }), "k=4");
  CheckRefused(with([](FusedUnit* u) { u->hidden = 0; }), "`project`");
  CheckRefused(with([](FusedUnit* u) { u->filters = 0; }), "filters=0");
  CheckRefused(with([](FusedUnit* u) { u->filters = -5; }), "filters=-5");
  CheckRefused(with([](FusedUnit* u) { u->filters = 1ll << 60; }), "`filters`");
  CheckRefused(with([](FusedUnit* u) { u->filters = 1ll << 56; }), "`filters`");
  CheckRefused(with([](FusedUnit* u) { u->strides[0] = 0; }), "`strides`");
  CheckRefused(with([](FusedUnit* u) { u->strides[1] = -1; }), "stride=-1");
  CheckRefused(with([](FusedUnit* u) { u->strides[1] = 1ll << 40; }),
               "`strides`");
  CheckRefused(with([](FusedUnit* u) {
                 u->residual = true;
                 u->filters = 2;
               }),
               "`residual`");
  CheckRefused(with([](FusedUnit* u) {
                 u->residual = true;
                 u->strides[1] = 2;
               }),
               "`residual`");
  CheckRefused(with([](FusedUnit* u) {
                 u->residual = true;
                 u->pooling = Pooling::kSame;
               }),
               "`residual`");
  CheckRefused(with([](FusedUnit* u) {
                 u->expanded = 2;
                 u->strides[0] = 2;
               }),
               "2 of 3 channels");
  CheckRefused(with([](FusedUnit* u) {
                 u->expanded = 2;
                 u->pooling = Pooling::kSame;
               }),
               "2 of 3 channels");
  CheckRefused(with([](FusedUnit* u) {
                 u->expanded = 2;
                 u->pooling = Pooling::kGlobal;
               }),
               "2 of 3 channels");
  CheckRefused(with([](FusedUnit* u) {
                 u->strides[1] = 2;
                 u->pooling = Pooling::kGlobal;
               }),
               "`strides`");
  FusedUnit pooled = good;
  pooled.pooling = Pooling::kValid;
  CheckRefused(call(shape, pooled, 0), "displacement=1");
  pooled.pooling = Pooling::kGlobal;
  CheckRefused(call(shape, pooled, 0), "displacement=1");
  CheckRefused(
      call({.batch = 1, .height = 2, .width = 0, .channels = 3}, pooled, 0),
      "images of 2 x 0");
}

int Main() {
  ForEachIsa([] {
    TestRandom();
    TestChosen();
    TestSeveralCallers();
    TestSubnormals();
    for (bool bfloat16 : {false, true}) TestNotANumber(bfloat16);
    TestInfinityStaysInItsChannel();
  });
  TestEmpty();
  TestArguments();
  return Report();
}

}  // namespace
}  // namespace keras_shift

int main() { return keras_shift::Main(); }
