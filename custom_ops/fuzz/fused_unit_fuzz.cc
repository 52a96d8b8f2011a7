// Runs fused units of any shape, stride and pooling, and compares them with the
// definition in fused_unit.h, in double.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "custom_ops/cc/fused_unit.h"
#include "custom_ops/fuzz/fuzz.h"

namespace keras_shift::fuzz {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
// More than these take too long under a sanitizer. It is enough for four
// threads.
constexpr double kMostProducts = 1 << 22;

using Floats = std::unique_ptr<float[]>;

struct Case {
  ImageShape shape;
  FusedUnit unit;
  std::vector<int32_t> displacements;
};

// A matrix with a bias in front.
class Matrix {
 public:
  Matrix(int64_t rows, int64_t columns, uint64_t seed)
      : rows_(rows), columns_(columns), values_((1 + rows) * columns) {
    const Hash hash(seed);
    for (size_t k = 0; k < values_.size(); ++k) {
      values_[k] = static_cast<float>(hash.Real(k));
    }
  }

  // The bias is in row -1.
  float At(int64_t row, int64_t column) const {
    return values_[(row + 1) * columns_ + column];
  }

  // In panels, with NaN where nothing may depend on it.
  Floats Panels() const {
    const int64_t panels = CeilDiv(columns_, 16);
    Floats packed(new float[panels * (1 + rows_) * 16]);
    float* value = packed.get();
    for (int64_t panel = 0; panel < panels; ++panel) {
      for (int64_t row = -1; row < rows_; ++row) {
        for (int64_t lane = 0; lane < 16; ++lane) {
          const int64_t column = panel * 16 + lane;
          *value++ = column < columns_ ? At(row, column) : kNan;
        }
      }
    }
    return packed;
  }

 private:
  const int64_t rows_;
  const int64_t columns_;
  std::vector<float> values_;
};

struct Value {
  double value = 0;
  // The sum of absolute values, against which rounding errors are measured.
  double scale = 0;
};

// The wide tensor, zero outside of the images.
class Wide {
 public:
  Wide(const Case& c, const float* x, const Matrix& expand)
      : c_(c),
        values_(c.shape.batch * c.shape.height * c.shape.width *
                c.unit.hidden) {
    for (size_t k = 0; k < values_.size(); ++k) {
      const int64_t pixel = static_cast<int64_t>(k) / c.unit.hidden;
      const int64_t e = static_cast<int64_t>(k) % c.unit.hidden;
      Value sum = {expand.At(-1, e), std::abs(expand.At(-1, e))};
      for (int64_t channel = 0; channel < c.unit.expanded; ++channel) {
        const double product =
            static_cast<double>(x[pixel * c.shape.channels + channel]) *
            expand.At(channel, e);
        sum.value += product;
        sum.scale += std::abs(product);
      }
      values_[k] = {std::max(sum.value, 0.0), sum.scale};
    }
  }

  Value Moved(int64_t n, int64_t i, int64_t j, int64_t e) const {
    if (c_.unit.pooling == Pooling::kNone) {
      return At(n, i + c_.displacements[e],
                j + c_.displacements[c_.unit.hidden + e], e);
    }
    const int count = (2 * i + 1 < c_.shape.height ? 2 : 1) *
                      (2 * j + 1 < c_.shape.width ? 2 : 1);
    Value sum;
    for (int a : {0, 1}) {
      for (int b : {0, 1}) {
        const Value one = At(n, 2 * i + a, 2 * j + b, e);
        sum.value += one.value / count;
        sum.scale += one.scale / count;
      }
    }
    return sum;
  }

 private:
  Value At(int64_t n, int64_t i, int64_t j, int64_t e) const {
    const ImageShape& s = c_.shape;
    if (i < 0 || i >= s.height || j < 0 || j >= s.width) return {};
    return values_[((n * s.height + i) * s.width + j) * c_.unit.hidden + e];
  }

  const Case& c_;
  std::vector<Value> values_;
};

std::vector<Value> Expected(const Case& c, const ImageShape& y_shape,
                            const float* x, const Matrix& expand,
                            const Matrix& project) {
  const Wide wide(c, x, expand);
  const ImageShape& s = c.shape;
  const FusedUnit& unit = c.unit;
  std::vector<Value> y;
  // A size of nothing may have another one that takes long to count to.
  if (NumElements(y_shape) == 0) return y;
  for (int64_t n = 0; n < y_shape.batch; ++n) {
    for (int64_t i = 0; i < y_shape.height; ++i) {
      for (int64_t j = 0; j < y_shape.width; ++j) {
        const float* const pixel =
            x + ((n * s.height + i) * s.width + j) * s.channels;
        for (int64_t f = 0; f < unit.filters; ++f) {
          Value sum = {project.At(-1, f), std::abs(project.At(-1, f))};
          for (int64_t e = 0; e < unit.hidden; ++e) {
            const Value moved =
                wide.Moved(n, i * unit.strides[0], j * unit.strides[1], e);
            const double weight = project.At(e, f);
            sum.value += weight * moved.value;
            sum.scale += std::abs(weight) * moved.scale;
          }
          if (unit.relu) sum.value = std::max(sum.value, 0.0);
          if (unit.residual) {
            sum.value += pixel[f];
            sum.scale += std::abs(pixel[f]);
          }
          y.push_back(sum);
        }
        for (int64_t k = unit.expanded; k < s.channels; ++k) {
          y.push_back({pixel[k], 0});
        }
      }
    }
  }
  return y;
}

FusedUnit DrawUnit(const ImageShape& shape, Input* input) {
  const int64_t wide = input->OneIn(8) ? 300 : 70;
  FusedUnit unit = {
      .expanded = shape.channels,
      .hidden = input->Draw(1, wide),
      .filters = input->Draw(1, wide),
      .pooling = static_cast<Pooling>(input->OneIn(2) ? input->Draw(1, 2) : 0),
      .relu = input->OneIn(2),
      .residual = input->OneIn(4)};
  if (input->OneIn(4)) {
    for (int64_t& stride : unit.strides) {
      stride = input->OneIn(32) ? input->Extreme() : input->Draw(1, 5);
    }
  }
  if (input->OneIn(4)) unit.expanded = input->Draw(1, shape.channels + 1);
  if (unit.residual) unit.filters = unit.expanded;
  if (input->OneIn(32)) {
    int64_t* const sizes[] = {&unit.expanded, &unit.hidden, &unit.filters};
    *sizes[input->Draw(0, 2)] = input->Extreme();
  }
  return unit;
}

std::string Describe(const Case& c, int64_t threads) {
  const FusedUnit& u = c.unit;
  std::string text = "unit on " + Text(c.shape);
  for (const auto& [name, value] :
       {std::pair<const char*, int64_t>{"expanded", u.expanded},
        {"hidden", u.hidden},
        {"filters", u.filters},
        {"stride of rows", u.strides[0]},
        {"stride of columns", u.strides[1]},
        {"pooling", static_cast<int64_t>(u.pooling)},
        {"relu", u.relu},
        {"residual", u.residual},
        {"threads", threads}}) {
    text += std::string(", ") + name + "=" + std::to_string(value);
  }
  return text;
}

void TestUnit(Input* input) {
  Case c;
  c.shape = DrawShape(input);
  c.unit = DrawUnit(c.shape, input);
  if (input->OneIn(64)) c.shape.height = input->Extreme();
  const int64_t threads = DrawThreads(input);
  const std::string what = Describe(c, threads);
  ImageShape y_shape;
  if (!FusedUnitShape(c.shape, c.unit, &y_shape).ok()) {
    Check(!FusedUnit2D(c.shape, c.unit, nullptr, nullptr, nullptr, nullptr,
                       threads, nullptr)
               .ok(),
          what + ": refused, and then accepted");
    return;
  }
  const double pixels = static_cast<double>(c.shape.batch) *
                        static_cast<double>(c.shape.height) *
                        static_cast<double>(c.shape.width);
  const double products = (pixels + 1) * static_cast<double>(c.unit.hidden) *
                          (static_cast<double>(c.shape.channels) +
                           static_cast<double>(c.unit.filters));
  if (products > kMostProducts) return;

  c.displacements = c.unit.pooling == Pooling::kNone || input->OneIn(32)
                        ? DrawDisplacements(c.unit.hidden, input)
                        : std::vector<int32_t>(2 * c.unit.hidden);
  const uint64_t seed = input->Draw(0, 65535);
  const Hash hash(seed);
  const int64_t x_size = NumElements(c.shape);
  const Floats x(new float[x_size]);
  for (int64_t k = 0; k < x_size; ++k) {
    x[k] = static_cast<float>(hash.Real(k));
  }
  const Matrix expand(c.unit.expanded, c.unit.hidden, seed + 1);
  const Matrix project(c.unit.hidden, c.unit.filters, seed + 2);
  const Floats expand_panels = expand.Panels();
  const Floats project_panels = project.Panels();
  const std::vector<Value> expected =
      Expected(c, y_shape, x.get(), expand, project);
  const int64_t y_size = NumElements(y_shape);
  Check(y_size == static_cast<int64_t>(expected.size()), what + ": shape");

  const auto run = [&](int64_t num_threads, const Floats& y) {
    std::fill_n(y.get(), y_size, kNan);
    return FusedUnit2D(c.shape, c.unit, x.get(), expand_panels.get(),
                       project_panels.get(), c.displacements.data(),
                       num_threads, y.get())
        .ok();
  };
  const auto close = [&](const Floats& y) {
    for (int64_t k = 0; k < y_size; ++k) {
      const double error = std::abs(y[k] - expected[k].value);
      const double epsilon = std::numeric_limits<float>::epsilon();
      if (!(error <= 4 * epsilon * expected[k].scale)) return false;
    }
    return true;
  };
  const Floats alone(new float[y_size]);
  const Floats together(new float[y_size]);
  ForEachIsa([&] {
    const bool ran = run(1, alone);
    Check(!ran || close(alone), what);
    if (ran && run(threads, together)) {
      Check(
          std::memcmp(alone.get(), together.get(), y_size * sizeof(float)) == 0,
          what + ": other bits than on one thread");
    }
  });
}

}  // namespace
}  // namespace keras_shift::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  keras_shift::fuzz::Input input(data, size);
  keras_shift::fuzz::TestUnit(&input);
  return 0;
}
