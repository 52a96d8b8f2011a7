#include "custom_ops/cc/fused_chain.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "custom_ops/cc/arguments.h"
#include "custom_ops/cc/fused_unit_arguments.h"
#include "custom_ops/cc/fused_unit_plan.h"
#include "custom_ops/cc/fused_unit_schedule.h"
#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/thread_pool.h"
#include "custom_ops/cc/workspace.h"

namespace keras_shift {
namespace {

// The maps of the images that are computed together.
thread_local Workspace maps_of_thread;

// The shapes of the maps of some images: that of x, and what each unit makes of
// it.
using MapShapes = std::vector<ImageShape>;

Status CheckUnits(const ImageShape& shape, std::span<const FusedUnit> units,
                  MapShapes* shapes) {
  if (units.empty()) {
    return Status::InvalidArgument(
        "A chain must have at least a unit. Received: 0 units");
  }
  *shapes = {shape};
  for (const FusedUnit& unit : units) {
    ImageShape y_shape;
    const Status status = CheckFusedUnit(shapes->back(), unit, &y_shape);
    if (!status.ok()) {
      return Status::InvalidArgument(
          "Unit " + std::to_string(shapes->size() - 1) +
          " of the chain, whose `x` is what the one before it returns: " +
          status.message());
    }
    shapes->push_back(y_shape);
  }
  return Status();
}

// The bytes of a matrix of so many rows and columns in panels. They are counted
// in floating point first, as there may be too many for an integer.
Status MatrixBytes(const FusedUnit& unit, int64_t rows, int64_t columns,
                   int64_t* bytes) {
  constexpr int64_t kRowBytes = kPanelColumns * kWordBytes;
  const int64_t panel_rows = 1 + (unit.bfloat16 ? CeilDiv(rows, 2) : rows);
  const int64_t panels = CeilDiv(columns, kPanelColumns);
  const double about = static_cast<double>(panel_rows) * panels * kRowBytes;
  if (about >= static_cast<double>(kByteLimit)) {
    return Status::InvalidArgument(
        "Matrices of a chain must have fewer than 2**57 bytes. Received: " +
        std::to_string(rows) + " x " + std::to_string(columns) + " numbers");
  }
  *bytes = panel_rows * panels * kRowBytes;
  return Status();
}

// The bytes of both matrices of a unit.
struct WeightBytes {
  int64_t expand;
  int64_t project;
};

Status WeightBytesOf(const FusedUnit& unit, WeightBytes* bytes) {
  const Status status =
      MatrixBytes(unit, unit.expanded, unit.hidden, &bytes->expand);
  if (!status.ok()) return status;
  return MatrixBytes(unit, unit.hidden, unit.filters, &bytes->project);
}

Status CountWeights(std::span<const FusedUnit> units,
                    FusedChainShapes* shapes) {
  shapes->weight_bytes = 0;
  shapes->displacements = 0;
  for (const FusedUnit& unit : units) {
    WeightBytes bytes;
    const Status status = WeightBytesOf(unit, &bytes);
    if (!status.ok()) return status;
    shapes->weight_bytes += bytes.expand + bytes.project;
    shapes->displacements += 2 * unit.hidden;
    if (shapes->weight_bytes >= kByteLimit) {
      return Status::InvalidArgument(
          "All matrices of a chain must have fewer than 2**57 bytes. "
          "Received: " +
          std::to_string(shapes->weight_bytes) + " bytes");
    }
  }
  return Status();
}

// A unit and where its weights begin.
struct ChainedUnit {
  FusedUnit unit;
  const void* expand;
  const void* project;
  const int32_t* displacements;
};

using Chain = std::vector<ChainedUnit>;

Status FindWeights(std::span<const FusedUnit> units, const void* weights,
                   const int32_t* displacements, Chain* chain) {
  const char* expand = static_cast<const char*>(weights);
  for (const FusedUnit& unit : units) {
    WeightBytes bytes;
    Status status = WeightBytesOf(unit, &bytes);
    if (status.ok()) status = CheckPooledDisplacements(unit, displacements);
    if (!status.ok()) return status;
    chain->push_back({.unit = unit,
                      .expand = expand,
                      .project = expand + bytes.expand,
                      .displacements = displacements});
    expand += bytes.expand + bytes.project;
    displacements += 2 * unit.hidden;
  }
  return Status();
}

// The bytes of a map, so that what follows it begins with a cache line.
int64_t MapBytes(const ImageShape& shape) {
  constexpr int64_t kCacheLine = 64;
  const int64_t bytes = NumElements(shape) * sizeof(float);
  return CeilDiv(bytes, kCacheLine) * kCacheLine;
}

// The bytes that hold every map between units, together with the one before it.
int64_t BytesForMaps(const MapShapes& shapes) {
  int64_t most = 0;
  for (size_t i = 1; i + 1 < shapes.size(); ++i) {
    const int64_t before = i > 1 ? MapBytes(shapes[i - 1]) : 0;
    most = std::max(most, before + MapBytes(shapes[i]));
  }
  return most;
}

Status RunUnits(const MapShapes& shapes, const Chain& chain, const float* x,
                int64_t num_threads, float* y) {
  const int64_t bytes = BytesForMaps(shapes);
  unsigned char* const maps = maps_of_thread.Reserve(bytes);
  if (maps == nullptr && bytes > 0) return Status::OutOfMemory();
  // Maps lie in turns at the beginning and at the end of the memory.
  bool at_end = false;
  // Null as long as the present map is x, which must stay as it is.
  float* present = nullptr;
  for (size_t i = 0; i < chain.size(); ++i) {
    const FusedUnitPlan plan(shapes[i], chain[i].unit, shapes[i + 1],
                             chain[i].expand, chain[i].project,
                             chain[i].displacements);
    float* to = present;
    if (i + 1 == chain.size()) {
      to = y;
    } else if (present == nullptr || !MayRunInPlace(plan, num_threads)) {
      to = reinterpret_cast<float*>(
          maps + (at_end ? bytes - MapBytes(shapes[i + 1]) : 0));
      at_end = !at_end;
    }
    const Status status =
        RunFusedUnit(plan, present == nullptr ? x : present, num_threads, to);
    if (!status.ok()) return status;
    present = to;
  }
  return Status();
}

// Runs all units for the images that these shapes tell. Returns false if there
// is not enough memory.
bool RunImages(const MapShapes& shapes, const Chain& chain, const float* x,
               int64_t num_threads, float* y) noexcept {
  bool ok = false;
  try {
    ok = RunUnits(shapes, chain, x, num_threads, y).ok();
  } catch (const std::exception&) {
    // This is std::bad_alloc, or a vector's std::length_error.
  }
  maps_of_thread.ReleaseIfLarge();
  return ok;
}

// So many images that their maps fit into the memory that a thread keeps. It
// need not be handed out anew then, and they may stay in a cache.
int64_t ImagesAtOnce(const MapShapes& shapes) {
  const int64_t batch = shapes.front().batch;
  const int64_t image_bytes = CeilDiv(BytesForMaps(shapes), batch);
  if (image_bytes == 0) return batch;
  return std::clamp<int64_t>(Workspace::kKeptBytes / image_bytes, 1, batch);
}

MapShapes ForImages(const MapShapes& shapes, int64_t images) {
  MapShapes result = shapes;
  for (ImageShape& shape : result) shape.batch = images;
  return result;
}

Status RunInGroups(const MapShapes& shapes, const Chain& chain, const float* x,
                   int64_t num_threads, float* y) {
  const int64_t batch = shapes.front().batch;
  const int64_t x_floats = NumElements(shapes.front()) / batch;
  const int64_t y_floats = NumElements(shapes.back()) / batch;
  const int64_t threads = num_threads == 0 ? NumCores() : num_threads;
  // With many images, each thread takes some through all units, and need not
  // wait for others between them.
  const bool apart = threads > 1 && batch >= 4 * threads;
  int64_t groups = CeilDiv(batch, ImagesAtOnce(shapes));
  if (apart) groups = std::min(batch, CeilDiv(groups, threads) * threads);
  const MapShapes fewer = ForImages(shapes, batch / groups);
  const MapShapes more = ForImages(shapes, CeilDiv(batch, groups));
  std::atomic<bool> out_of_memory{false};
  ParallelFor(groups, apart ? threads : 1, [&](int64_t group, int64_t) {
    const int64_t first = batch * group / groups;
    const int64_t images = batch * (group + 1) / groups - first;
    const bool ok = RunImages(images == fewer.front().batch ? fewer : more,
                              chain, x + first * x_floats,
                              apart ? 1 : num_threads, y + first * y_floats);
    if (!ok) out_of_memory = true;
  });
  return out_of_memory ? Status::OutOfMemory() : Status();
}

// Runs all units but a classifier at the end in groups of images. The
// classifier takes all images at once, so that its matrices, which tend to be
// the largest ones, are read once.
Status RunAll(const MapShapes& shapes, Chain chain, const float* x,
              int64_t num_threads, float* y) {
  const ChainedUnit last = chain.back();
  if (last.unit.pooling != Pooling::kGlobal || chain.size() == 1) {
    return RunInGroups(shapes, chain, x, num_threads, y);
  }
  chain.pop_back();
  const MapShapes before(shapes.begin(), shapes.end() - 1);
  std::vector<float> map(NumElements(before.back()));
  const Status status = RunInGroups(before, chain, x, num_threads, map.data());
  if (!status.ok()) return status;
  const FusedUnitPlan plan(before.back(), last.unit, shapes.back(), last.expand,
                           last.project, last.displacements);
  return RunFusedUnit(plan, map.data(), num_threads, y);
}

Status CheckAndRun(const ImageShape& shape, std::span<const FusedUnit> units,
                   const float* x, const void* weights,
                   const int32_t* displacements, int64_t num_threads,
                   float* y) {
  MapShapes shapes;
  Chain chain;
  Status status = CheckUnits(shape, units, &shapes);
  if (status.ok()) status = CheckNumThreads("Argument", num_threads);
  if (status.ok()) status = FindWeights(units, weights, displacements, &chain);
  // A map without elements leaves none to y.
  if (!status.ok() || NumElements(shapes.back()) == 0) return status;
  return RunAll(shapes, std::move(chain), x, num_threads, y);
}

}  // namespace

Status FusedChainShape(const ImageShape& shape,
                       std::span<const FusedUnit> units,
                       FusedChainShapes* shapes) noexcept {
  try {
    MapShapes maps;
    Status status = CheckUnits(shape, units, &maps);
    if (status.ok()) status = CountWeights(units, shapes);
    if (status.ok()) shapes->y = maps.back();
    return status;
  } catch (const std::exception&) {
    // Only std::bad_alloc can be thrown.
    return Status::OutOfMemory();
  }
}

Status FusedChain2D(const ImageShape& shape, std::span<const FusedUnit> units,
                    const float* x, const void* weights,
                    const int32_t* displacements, int64_t num_threads,
                    float* y) noexcept {
  try {
    return CheckAndRun(shape, units, x, weights, displacements, num_threads, y);
  } catch (const std::exception&) {
    // This is std::bad_alloc, or a vector's std::length_error.
    return Status::OutOfMemory();
  }
}

}  // namespace keras_shift
