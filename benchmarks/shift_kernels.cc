// Times the kernels of the native op against memcpy, on one thread.
//
// Started by shift_kernels.py, which says what is measured. Prints one line of
// comma-separated values a cell; every figure of a cell is the median of ratios
// of processor times taken in turns.

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#include "custom_ops/cc/shift.h"

namespace {

using keras_shift::FloatType;
using keras_shift::ImageShape;
using keras_shift::Shift2D;
using keras_shift::SparseShift2DGrad;

struct Cell {
  ImageShape shape;
  int range;
  int percent_unshifted;
  bool sorted;
};

// Floats that begin with a cache line, as TensorFlow's tensors do. Those of a
// std::vector begin within one, and every load of 64 bytes takes two.
class Tensor {
 public:
  explicit Tensor(size_t count) : lines_((count + 15) / 16) {}
  float* data() { return reinterpret_cast<float*>(lines_.data()); }
  float& operator[](size_t k) { return data()[k]; }

 private:
  struct alignas(64) Line {
    float numbers[16];
  };
  std::vector<Line> lines_;
};

double ProcessorSeconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}

// As many channels for each displacement as possible, in random order or sorted
// with the unshifted ones first.
std::vector<std::pair<int, int>> Displacements(const Cell& cell,
                                               std::mt19937* random) {
  std::vector<std::pair<int, int>> choices;
  for (int row = -cell.range; row <= cell.range; ++row) {
    for (int column = -cell.range; column <= cell.range; ++column) {
      if (row != 0 || column != 0) choices.emplace_back(row, column);
    }
  }
  std::shuffle(choices.begin(), choices.end(), *random);
  const int channels = static_cast<int>(cell.shape.channels);
  const int shifted = channels * (100 - cell.percent_unshifted) / 100;
  std::vector<std::pair<int, int>> result(channels, {0, 0});
  for (int c = 0; c < shifted; ++c) {
    result[channels - 1 - c] = choices[c % choices.size()];
  }
  if (cell.sorted) {
    std::sort(result.begin() + (channels - shifted), result.end());
  } else {
    std::shuffle(result.begin(), result.end(), *random);
  }
  return result;
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2,
                   values.end());
  return values[values.size() / 2];
}

void Check(const keras_shift::Status& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::exit(1);
  }
}

void Measure(const Cell& cell, int rounds, std::mt19937* random) {
  const ImageShape& s = cell.shape;
  const size_t count = s.batch * s.height * s.width * s.channels;
  const auto pattern = Displacements(cell, random);
  std::vector<int32_t> whole(2 * s.channels);
  std::vector<float> real(2 * s.channels);
  std::uniform_real_distribution<float> fraction(-0.45f, 0.45f);
  for (int c = 0; c < s.channels; ++c) {
    whole[c] = pattern[c].first;
    whole[s.channels + c] = pattern[c].second;
    real[c] = pattern[c].first + fraction(*random);
    real[s.channels + c] = pattern[c].second + fraction(*random);
  }
  Tensor x(count), g(count), y(count);
  std::vector<float> gradient(2 * s.channels);
  for (size_t k = 0; k < count; ++k) {
    x[k] = static_cast<float>((*random)() & 255) / 256 - 0.5f;
    g[k] = x[k];
  }
  const std::vector<std::function<void()>> calls = {
      [&] { std::memcpy(y.data(), x.data(), count * sizeof(float)); },
      [&] { Check(Shift2D(s, 4, x.data(), whole.data(), 1, y.data())); },
      [&] {
        Check(SparseShift2DGrad(s, FloatType::kFloat, x.data(), false, g.data(),
                                FloatType::kFloat, real.data(), 1, y.data(),
                                gradient.data()));
      },
  };
  const int inner = std::max<int>(1, 4000000 / count);
  std::vector<std::vector<double>> seconds(calls.size());
  for (int round = 0; round < rounds; ++round) {
    for (size_t call = 0; call < calls.size(); ++call) {
      calls[call]();
      const double start = ProcessorSeconds();
      for (int k = 0; k < inner; ++k) calls[call]();
      seconds[call].push_back((ProcessorSeconds() - start) / inner);
    }
  }
  std::printf("cell,%d,%d,%d,%d,%d,%d,%.3f", static_cast<int>(s.batch),
              static_cast<int>(s.height), static_cast<int>(s.channels),
              cell.range, cell.percent_unshifted, cell.sorted ? 1 : 0,
              Median(seconds[0]) * 1e6);
  for (size_t call = 1; call < calls.size(); ++call) {
    std::vector<double> ratios;
    for (int round = 0; round < rounds; ++round) {
      ratios.push_back(seconds[call][round] / seconds[0][round]);
    }
    std::sort(ratios.begin(), ratios.end());
    std::printf(",%.4f,%.4f,%.4f", ratios[rounds / 2], ratios[rounds / 4],
                ratios[rounds - 1 - rounds / 4]);
  }
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

int main() {
  const char* text = std::getenv("ROUNDS");
  const int rounds = text == nullptr ? 9 : std::max(1, std::atoi(text));
  // Channels and size of the maps that FE-Net shifts.
  const std::pair<int, int> maps[] = {{64, 112}, {96, 56},  {192, 28},
                                      {384, 14}, {768, 14}, {1536, 7}};
  std::mt19937 random(0);
  for (const int batch : {1, 32}) {
    for (const auto& [channels, size] : maps) {
      for (const int range : {1, 2}) {
        for (const int unshifted : {60, 90}) {
          for (const bool sorted : {true, false}) {
            Measure({{batch, size, size, channels}, range, unshifted, sorted},
                    rounds, &random);
          }
        }
      }
    }
  }
  return 0;
}
