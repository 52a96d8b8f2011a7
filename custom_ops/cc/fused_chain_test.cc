// Compares chains with their units, called one after the other, to the bit:
// blocks that write in place, images in groups, matrices in float32 and in
// bfloat16, every instruction set that this machine has, and several numbers of
// threads and callers. What units compute is tested in fused_unit_test.cc.

#include "custom_ops/cc/fused_chain.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "custom_ops/cc/fused_unit.h"
#include "custom_ops/cc/testing.h"

namespace keras_shift {
namespace {

// The words of a matrix in panels.
int64_t Words(const FusedUnit& unit, int64_t rows, int64_t columns) {
  return (columns + 15) / 16 * 16 *
         (1 + (unit.bfloat16 ? (rows + 1) / 2 : rows));
}

struct Case {
  std::string name;
  ImageShape shape;
  std::vector<FusedUnit> units;
};

std::string Text(const Case& c) {
  std::string text = c.name + (c.units[0].bfloat16 ? " bfloat16" : "");
  const auto add = [&](const char* before, int64_t value) {
    text += std::string(before) + std::to_string(value);
  };
  add(": ", c.shape.batch);
  add(" x ", c.shape.height);
  add(" x ", c.shape.width);
  add(" x ", c.shape.channels);
  for (const FusedUnit& unit : c.units) {
    add("; ", unit.expanded);
    add("-", unit.hidden);
    add("-", unit.filters);
  }
  return text;
}

struct Inputs {
  Floats x;
  Floats weights;
  std::vector<int32_t> displacements;
};

// Draws a number for each word, or a pair of numbers of bfloat16.
void DrawWeights(bool bfloat16, Floats* weights, std::mt19937* random) {
  std::uniform_real_distribution<float> reals(-1, 1);
  for (int64_t i = 0; i < weights->size; ++i) {
    float& word = weights->data[i];
    if (!bfloat16) {
      word = reals(*random);
      continue;
    }
    uint16_t pair[2];
    for (uint16_t& half : pair) {
      const float number = reals(*random);
      uint32_t bits;
      std::memcpy(&bits, &number, sizeof(bits));
      half = bits >> 16;
    }
    std::memcpy(&word, pair, sizeof(word));
  }
}

Inputs DrawInputs(const Case& c, std::mt19937* random) {
  int64_t words = 0;
  std::vector<int32_t> displacements;
  for (const FusedUnit& unit : c.units) {
    words += Words(unit, unit.expanded, unit.hidden) +
             Words(unit, unit.hidden, unit.filters);
    for (int64_t k = 0; k < 2 * unit.hidden; ++k) {
      const bool moves =
          unit.pooling == Pooling::kNone && Draw(0, 2, random) == 0;
      displacements.push_back(moves ? Draw(-2, 2, random) : 0);
    }
  }
  Inputs in = {Floats(NumElements(c.shape)), Floats(words),
               std::move(displacements)};
  DrawWeights(c.units[0].bfloat16, &in.weights, random);
  std::uniform_real_distribution<float> reals(-1, 1);
  for (int64_t i = 0; i < in.x.size; ++i) in.x.data[i] = reals(*random);
  return in;
}

// What the units return, each on the output of the one before.
Floats OneByOne(const Case& c, const Inputs& in) {
  ImageShape shape = c.shape;
  Floats x(in.x.size);
  std::copy_n(in.x.data.get(), x.size, x.data.get());
  const float* weights = in.weights.data.get();
  const int32_t* displacements = in.displacements.data();
  for (const FusedUnit& unit : c.units) {
    ImageShape y_shape;
    Check(FusedUnitShape(shape, unit, &y_shape).ok(), Text(c) + ": unit");
    Floats y(NumElements(y_shape));
    const float* const project =
        weights + Words(unit, unit.expanded, unit.hidden);
    Check(FusedUnit2D(shape, unit, x.data.get(), weights, project,
                      displacements, 1, y.data.get())
              .ok(),
          Text(c) + ": unit");
    weights = project + Words(unit, unit.hidden, unit.filters);
    displacements += 2 * unit.hidden;
    x = std::move(y);
    shape = y_shape;
  }
  return x;
}

Floats Run(const Case& c, const Inputs& in, int64_t threads) {
  FusedChainShapes shapes;
  Status status = FusedChainShape(c.shape, c.units, &shapes);
  Check(status.ok(), Text(c) + ": " + status.message());
  Check(shapes.weight_bytes == 4 * in.weights.size, Text(c) + ": weights");
  Check(shapes.displacements == static_cast<int64_t>(in.displacements.size()),
        Text(c) + ": displacements");
  Floats y(NumElements(shapes.y));
  std::fill_n(y.data.get(), y.size, std::numeric_limits<float>::quiet_NaN());
  status =
      FusedChain2D(c.shape, c.units, in.x.data.get(), in.weights.data.get(),
                   in.displacements.data(), threads, y.data.get());
  Check(status.ok(), Text(c) + ": " + status.message());
  return y;
}

void TestCase(Case c, std::mt19937* random) {
  for (bool bfloat16 : {false, true}) {
    for (FusedUnit& unit : c.units) unit.bfloat16 = bfloat16;
    const Inputs in = DrawInputs(c, random);
    Floats x(in.x.size);
    std::copy_n(in.x.data.get(), x.size, x.data.get());
    const Floats expected = OneByOne(c, in);
    for (int64_t threads : {1, 2, 5}) {
      Check(
          SameBits(Run(c, in, threads), expected),
          Text(c) + ": other bits on " + std::to_string(threads) + " threads");
      Check(SameBits(in.x, x), Text(c) + ": x has changed");
    }
  }
}

// ---------------------------------------------------------------------------
// What is drawn.

// A unit for so many channels, which may pass some by if it keeps the size.
FusedUnit DrawUnit(int64_t channels, bool last, std::mt19937* random) {
  FusedUnit unit = {.expanded = channels,
                    .hidden = Draw(1, 70, random),
                    .filters = Draw(1, 40, random),
                    .relu = Draw(0, 1, random) == 1};
  switch (Draw(0, last ? 7 : 6, random)) {
    case 0:
      unit.pooling = Pooling::kSame;
      break;
    case 1:
      unit.strides[0] = Draw(1, 3, random);
      unit.strides[1] = Draw(1, 3, random);
      break;
    case 2:
    case 3:
    case 4:
      unit.expanded = unit.filters = Draw(1, channels, random);
      unit.residual = Draw(0, 1, random) == 1;
      break;
    case 5:
      unit.expanded = Draw(1, channels, random);
      break;
    case 7:
      unit.pooling = Pooling::kGlobal;
      break;
  }
  return unit;
}

void TestRandom() {
  std::mt19937 random(kSeed);
  for (int k = 0; k < 30; ++k) {
    Case c = {.name = "random",
              .shape = {.batch = Draw(1, 5, &random),
                        .height = Draw(1, 17, &random),
                        .width = Draw(1, 33, &random),
                        .channels = Draw(1, 40, &random)},
              .units = {}};
    int64_t channels = c.shape.channels;
    const int64_t count = Draw(1, 6, &random);
    for (int64_t i = 0; i < count; ++i) {
      c.units.push_back(DrawUnit(channels, i + 1 == count, &random));
      channels += c.units.back().filters - c.units.back().expanded;
    }
    TestCase(c, &random);
  }
}

// An FE-block, a unit in front of it and a classifier behind it.
std::vector<FusedUnit> Block(int64_t channels, int64_t hidden) {
  return {
      {.expanded = 3, .hidden = 6, .filters = channels, .relu = true},
      {.expanded = channels / 4,
       .hidden = hidden / 4,
       .filters = channels / 4,
       .residual = true},
      {.expanded = channels / 2, .hidden = hidden / 2, .filters = channels / 2},
      {.expanded = channels,
       .hidden = hidden,
       .filters = channels,
       .relu = true,
       .residual = true},
      {.expanded = channels,
       .hidden = 12,
       .filters = 19,
       .pooling = Pooling::kGlobal}};
}

void TestChosen() {
  std::mt19937 random(kSeed);
  TestCase({"in phases, in place",
            {.batch = 1, .height = 14, .width = 13, .channels = 3},
            Block(48, 280)},
           &random);
  TestCase({"in bands",
            {.batch = 1, .height = 90, .width = 61, .channels = 3},
            Block(16, 96)},
           &random);
  TestCase({"images in groups",
            {.batch = 3, .height = 60, .width = 50, .channels = 3},
            Block(64, 8)},
           &random);
  TestCase({"images one by one",
            {.batch = 2, .height = 70, .width = 90, .channels = 3},
            Block(88, 4)},
           &random);
  TestCase({"threads apart",
            {.batch = 43, .height = 9, .width = 11, .channels = 3},
            Block(16, 40)},
           &random);
  TestCase({"threads apart, in groups",
            {.batch = 11, .height = 30, .width = 50, .channels = 3},
            Block(128, 4)},
           &random);
  TestCase({"one pixel",
            {.batch = 2, .height = 1, .width = 1, .channels = 3},
            Block(8, 9)},
           &random);
}

// Callers at the same time must get the result of a single one.
void TestSeveralCallers() {
  std::mt19937 random(kSeed);
  const Case c = {"callers",
                  {.batch = 2, .height = 20, .width = 21, .channels = 3},
                  Block(24, 140)};
  const Inputs in = DrawInputs(c, &random);
  const Floats expected = OneByOne(c, in);
  bool same[4] = {};
  std::vector<std::thread> callers;
  for (bool& ok : same) {
    callers.emplace_back([&] {
      ok = true;
      for (int turn = 0; turn < 10; ++turn) {
        Floats y(expected.size);
        ok = ok &&
             FusedChain2D(c.shape, c.units, in.x.data.get(),
                          in.weights.data.get(), in.displacements.data(),
                          1 + turn % 3, y.data.get())
                 .ok() &&
             SameBits(y, expected);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (bool ok : same) Check(ok, "several callers");
}

// ---------------------------------------------------------------------------
// Arguments.

void TestEmpty() {
  const FusedUnit unit = {.expanded = 4, .hidden = 2, .filters = 4};
  FusedUnit pooled = unit;
  pooled.pooling = Pooling::kValid;
  const int32_t d[8] = {};
  const auto runs = [&](const ImageShape& shape,
                        const std::vector<FusedUnit>& units) {
    const float weights[256] = {};
    return FusedChain2D(shape, units, nullptr, weights, d, 0, nullptr).ok();
  };
  Check(
      runs({.batch = 0, .height = 2, .width = 3, .channels = 4}, {unit, unit}),
      "no images");
  Check(
      runs({.batch = 2, .height = 0, .width = 3, .channels = 4}, {unit, unit}),
      "no rows");
  Check(runs({.batch = 2, .height = 1, .width = 3, .channels = 4},
             {pooled, unit}),
        "nothing is left of a row");
}

void TestArguments() {
  const ImageShape shape = {.batch = 1, .height = 2, .width = 2, .channels = 3};
  const FusedUnit good = {.expanded = 3, .hidden = 2, .filters = 3};
  const int32_t d[8] = {0, 0, 0, 0, 0, 0, 0, 1};
  const auto call = [&](const std::vector<FusedUnit>& units, int64_t threads) {
    float memory[512] = {};
    return FusedChain2D(shape, units, memory, memory, d, threads, memory + 256);
  };
  const auto shapes_of = [&](const std::vector<FusedUnit>& units) {
    FusedChainShapes shapes;
    return FusedChainShape(shape, units, &shapes);
  };
  CheckRefused(call({}, 0), "0 units");
  CheckRefused(call({good, good}, -1), "num_threads=-1");
  FusedUnit bad = good;
  bad.expanded = 4;
  CheckRefused(call({good, bad}, 0), "Unit 1 of the chain");
  CheckRefused(shapes_of({good, bad}), "k=4");
  FusedUnit pooled = good;
  pooled.pooling = Pooling::kSame;
  CheckRefused(call({good, pooled}, 0), "displacement=1");
  // Each number is admitted, but not their product, nor all products together.
  FusedUnit wide = good;
  wide.hidden = int64_t{1} << 56;
  CheckRefused(shapes_of({good, wide}), "2**57");
  wide.hidden = int64_t{1} << 50;
  CheckRefused(shapes_of({wide, wide}), "All matrices");
}

int Main() {
  ForEachIsa([] {
    TestRandom();
    TestChosen();
    TestSeveralCallers();
  });
  TestEmpty();
  TestArguments();
  return Report();
}

}  // namespace
}  // namespace keras_shift

int main() { return keras_shift::Main(); }
