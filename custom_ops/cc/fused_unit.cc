#include "custom_ops/cc/fused_unit.h"

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cstdlib>
#include <exception>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "custom_ops/cc/arguments.h"
#include "custom_ops/cc/isa.h"
#include "custom_ops/cc/thread_pool.h"

namespace keras_shift {
namespace {

// What a thread keeps of the wide tensor at a time; about half of a second
// cache, whose other half is for the weights.
constexpr int64_t kBandBytes = 512 << 10;
// What threads may share of it.
constexpr int64_t kSharedBytes = 1 << 20;
// A scratch beyond this is freed after the call.
constexpr int64_t kKeptBytes = 4 << 20;
// Waking a thread up takes about as long as so many products.
constexpr int64_t kProductsPerThread = 1 << 20;
// Rows that are multiplied by a panel before it is the next one's turn.
constexpr int64_t kRowsAtOnce = 64;

int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// ---------------------------------------------------------------------------
// Arguments.

Status Refused(const char* what, const char* name, int64_t received) {
  return Status::InvalidArgument(std::string(what) + ". Received: " + name +
                                 "=" + std::to_string(received));
}

Status CheckUnit(const ImageShape& shape, const FusedUnit& unit,
                 ImageShape* y_shape) {
  Status status = CheckArguments(shape, sizeof(float), 0);
  if (!status.ok()) return status;
  if (unit.expanded < 1 || unit.expanded > shape.channels) {
    return Status::InvalidArgument(
        "Argument `expand` must have 1 + k rows, where k is at least 1 and at "
        "most the channels of `x`, here " +
        std::to_string(shape.channels) +
        ". Received: k=" + std::to_string(unit.expanded));
  }
  if (unit.hidden < 1) {
    return Refused("Argument `project` must have at least 2 rows", "rows",
                   unit.hidden + 1);
  }
  if (unit.filters < 1) {
    return Refused("Argument `filters` must be at least 1", "filters",
                   unit.filters);
  }
  for (int64_t stride : unit.strides) {
    if (stride < 1 || stride > std::numeric_limits<int32_t>::max()) {
      return Refused("Argument `strides` must be two numbers from 1 to 2**31-1",
                     "stride", stride);
    }
  }
  const bool keeps_size = unit.strides[0] == 1 && unit.strides[1] == 1 &&
                          unit.pooling == Pooling::kNone;
  if (unit.residual && !(keeps_size && unit.filters == unit.expanded)) {
    return Status::InvalidArgument(
        "Argument `residual` needs as many filters as channels are expanded, "
        "strides of 1 and no pooling. Received: residual=true, filters=" +
        std::to_string(unit.filters) +
        ", expanded channels=" + std::to_string(unit.expanded) + ", strides=(" +
        std::to_string(unit.strides[0]) + ", " +
        std::to_string(unit.strides[1]) + ")");
  }
  if (shape.channels > unit.expanded && !keeps_size) {
    return Status::InvalidArgument(
        "Argument `expand` must expand all channels of `x` where there are "
        "strides or pooling: none can be copied. Received: " +
        std::to_string(unit.expanded) + " of " +
        std::to_string(shape.channels) + " channels expanded");
  }
  const auto projected = [&](int64_t size, int64_t stride) {
    if (unit.pooling == Pooling::kValid) size /= 2;
    if (unit.pooling == Pooling::kSame) size = CeilDiv(size, 2);
    return CeilDiv(size, stride);
  };
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 64;
  if (unit.filters > kMost || unit.hidden > kMost) {
    return Status::InvalidArgument(
        "Arguments `filters` and `project` must have fewer than 2**57 "
        "channels. Received: filters=" +
        std::to_string(unit.filters) + ", " + std::to_string(unit.hidden) +
        " rows of project");
  }
  *y_shape = {shape.batch, projected(shape.height, unit.strides[0]),
              projected(shape.width, unit.strides[1]),
              unit.filters + (shape.channels - unit.expanded)};
  if (!CheckArguments(*y_shape, sizeof(float), 0).ok()) {
    return Refused("Argument `filters` must give fewer than 2**57 bytes",
                   "filters", unit.filters);
  }
  return Status();
}

// ---------------------------------------------------------------------------
// Memory.

// Kept from call to call, since the system takes its time to hand out new
// memory. Not to be held by two functions of a thread at a time.
class Scratch {
 public:
  ~Scratch() { std::free(memory_); }

  // Null if there is not so much.
  unsigned char* Reserve(int64_t bytes) {
    if (bytes > size_) {
      Release();
      memory_ = std::aligned_alloc(kAlignment, RoundUp(bytes, kAlignment));
      if (memory_ != nullptr) size_ = bytes;
    }
    return static_cast<unsigned char*>(memory_);
  }

  void ReleaseIfLarge() {
    if (size_ > kKeptBytes) Release();
  }

 private:
  static constexpr int64_t kAlignment = 64;

  void Release() {
    std::free(memory_);
    memory_ = nullptr;
    size_ = 0;
  }

  void* memory_ = nullptr;
  int64_t size_ = 0;
};

thread_local Scratch scratch;

// Makes another thread compute as this one does: TensorFlow's threads take
// subnormal numbers for zero.
class SameRounding {
 public:
  SameRounding() { std::fegetenv(&environment_); }

  template <typename Function>
  void Call(const Function& function) const {
    std::fenv_t before;
    std::fegetenv(&before);
    std::fesetenv(&environment_);
    function();
    std::fesetenv(&before);
  }

 private:
  std::fenv_t environment_;
};

// ---------------------------------------------------------------------------
// The unit, prepared for one call.

// Where the rows of the wide tensor are, or, with pooling, the pooled ones.
struct Buffer {
  float* pixels;
  // rows[i] is where row i begins; for i outside of the map, a row of zeros.
  float** rows;
};

class Runner {
 public:
  Runner(const ImageShape& shape, const FusedUnit& unit,
         const ImageShape& y_shape, const float* x, const float* expand,
         const float* project, const int32_t* displacements, float* y);

  // May be called once.
  Status Run(int64_t num_threads);

 private:
  void FindRuns(const ImageShape& shape, const int32_t* displacements);
  void FindNeededRows();
  int64_t SlotFloats() const;
  bool Reserve(int64_t slots, Buffer* buffer);
  void PlacePooledRows(int64_t first, int64_t last, const Buffer& buffer) const;
  void Expand(const float* x, int64_t first, int64_t last, int64_t first_panel,
              int64_t last_panel, const Buffer& buffer) const;
  void ExpandAndPool(const float* x, int64_t first, int64_t last,
                     int64_t first_panel, int64_t last_panel,
                     const Buffer& buffer) const;
  void Project(const float* x, int64_t first, int64_t last, int64_t first_panel,
               int64_t last_panel, const Buffer& buffer, float* y) const;
  void CopyOthers(const float* x, int64_t first, int64_t last, float* y) const;
  void RunBand(const float* x, int64_t first, int64_t last, float* y);
  void RunInBands(int64_t threads);
  void RunInPhases(int64_t threads);

  const ImageShape& shape_;
  const FusedUnit& unit_;
  const ImageShape& y_shape_;
  const float* const x_;
  float* const y_;
  const GemmKernel& kernel_;
  const bool pooled_;

  // Runs of channels with the same displacement; those that never leave zero
  // are in none.
  std::vector<ChannelRun> runs_;
  int64_t row_before_ = 0;  // how far displacements go up and down
  int64_t row_after_ = 0;
  int64_t pad_ = 0;  // and to either side

  // Without a shift, only those pixels are expanded that are projected: a step
  // in x then is a stride.
  int64_t x_row_;
  int64_t height_;  // of what is kept
  int64_t width_;   // of what is expanded
  int64_t row_stride_;
  int64_t panels_;
  int64_t y_panels_;
  int64_t step_;  // from pixel to pixel, in floats
  std::vector<bool> needed_;
  ChannelRun all_expanded_;
  GemmParams expand_;
  GemmParams project_;

  std::atomic<bool> out_of_memory_{false};
};

Runner::Runner(const ImageShape& shape, const FusedUnit& unit,
               const ImageShape& y_shape, const float* x, const float* expand,
               const float* project, const int32_t* displacements, float* y)
    : shape_(shape),
      unit_(unit),
      y_shape_(y_shape),
      x_(x),
      y_(y),
      kernel_(BestGemmKernel()),
      pooled_(unit.pooling != Pooling::kNone) {
  FindRuns(shape, displacements);
  const bool moved = row_before_ + row_after_ + pad_ > 0;
  const bool strides_in_x = !pooled_ && !moved;
  x_row_ = shape.width * shape.channels * (strides_in_x ? unit.strides[0] : 1);
  row_stride_ = moved ? unit.strides[0] : 1;
  height_ = moved ? shape.height : y_shape.height;
  width_ = strides_in_x ? y_shape.width : shape.width;
  if (unit.pooling == Pooling::kValid) width_ -= width_ % 2;

  panels_ = CeilDiv(unit.hidden, kPanelColumns);
  y_panels_ = CeilDiv(unit.filters, kPanelColumns);
  step_ = panels_ * kPanelColumns;
  // At multiples of 1 KB, the pixels of a tile would share a few sets of the
  // first cache.
  if (step_ % 256 == 0) step_ += kPanelColumns;
  // So far, they hold the column.
  for (ChannelRun& run : runs_) run.offset = run.offset * step_ + run.first;

  all_expanded_ = {0, unit.expanded, 0, 0};
  expand_ = {&all_expanded_,
             1,
             expand,
             (1 + unit.expanded) * kPanelColumns,
             panels_ * kPanelColumns,
             true,
             shape.channels * (strides_in_x ? unit.strides[1] : 1),
             step_,
             0};
  project_ = {runs_.data(),
              static_cast<int64_t>(runs_.size()),
              project,
              (1 + unit.hidden) * kPanelColumns,
              unit.filters,
              unit.relu,
              step_ * (strides_in_x ? 1 : unit.strides[1]),
              y_shape.channels,
              shape.channels};
  if (!pooled_) FindNeededRows();
}

void Runner::FindRuns(const ImageShape& shape, const int32_t* displacements) {
  for (int64_t c = 0; c < unit_.hidden; ++c) {
    const int64_t row = displacements[c];
    const int64_t column = displacements[unit_.hidden + c];
    if (std::abs(row) >= shape.height || std::abs(column) >= shape.width) {
      continue;
    }
    if (!runs_.empty()) {
      ChannelRun& last = runs_.back();
      if (last.first + last.count == c && last.row == row &&
          last.offset == column) {
        ++last.count;
        continue;
      }
    }
    runs_.push_back({c, 1, row, column});
    row_before_ = std::max(row_before_, -row);
    row_after_ = std::max(row_after_, row);
    pad_ = std::max(pad_, std::abs(column));
  }
}

void Runner::FindNeededRows() {
  needed_.resize(height_);
  std::vector<bool> seen(row_before_ + row_after_ + 1);
  for (const ChannelRun& run : runs_) {
    if (seen[row_before_ + run.row]) continue;
    seen[row_before_ + run.row] = true;
    for (int64_t i = 0; i < y_shape_.height; ++i) {
      const int64_t row = i * row_stride_ + run.row;
      if (row >= 0 && row < height_) needed_[row] = true;
    }
  }
}

// What is kept of a row: two of them with pooling, which happens in place, and
// otherwise what lies before it, too.
int64_t Runner::SlotFloats() const {
  return (pooled_ ? 2 * width_ : pad_ + width_) * step_;
}

// Makes room for so many rows in this thread's scratch, row i in slot
// i % slots, and zeros around them.
bool Runner::Reserve(int64_t slots, Buffer* buffer) {
  const int64_t pitch = SlotFloats();
  const int64_t pad = pad_ * step_;
  const int64_t zero_rows = row_before_ + row_after_ > 0 ? 1 : 0;
  const int64_t pointers = row_before_ + height_ + row_after_;
  unsigned char* memory = nullptr;
  int64_t floats = 0;
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 64;
  if (pitch < kMost / (slots + 2)) {
    floats = (slots + zero_rows) * pitch + pad;
    memory = scratch.Reserve(floats * sizeof(float) +
                             pointers * sizeof(const float*));
  }
  if (memory == nullptr) {
    out_of_memory_ = true;
    return false;
  }
  auto* const begin = reinterpret_cast<float*>(memory);
  buffer->pixels = begin + pad;
  buffer->rows =
      reinterpret_cast<float**>(memory + floats * sizeof(float)) + row_before_;
  if (pooled_) return true;
  // What is behind a row is before the next one.
  for (int64_t slot = 0; slot <= slots; ++slot) {
    std::fill_n(begin + slot * pitch, pad, 0.0f);
  }
  float* const zeros = buffer->pixels + slots * pitch;
  std::fill_n(zeros, zero_rows * pitch, 0.0f);
  for (int64_t row = -row_before_; row < height_ + row_after_; ++row) {
    const bool inside = row >= 0 && row < height_;
    buffer->rows[row] = inside ? buffer->pixels + row % slots * pitch : zeros;
  }
  return true;
}

void Runner::PlacePooledRows(int64_t first, int64_t last,
                             const Buffer& buffer) const {
  const int64_t pitch = CeilDiv(width_, 2) * step_;
  for (int64_t i = first; i < last; ++i) {
    buffer.rows[i] = buffer.pixels + (i - first) * pitch;
  }
}

// Rows [first, last) of the wide tensor, as far as they are needed.
void Runner::Expand(const float* x, int64_t first, int64_t last,
                    int64_t first_panel, int64_t last_panel,
                    const Buffer& buffer) const {
  const float* sources[kRowsAtOnce];
  GemmRow rows[kRowsAtOnce];
  for (int64_t row = first; row < last;) {
    int64_t count = 0;
    for (; row < last && count < kRowsAtOnce; ++row) {
      if (!needed_[row]) continue;
      sources[count] = x + row * x_row_;
      rows[count] = {&sources[count], buffer.rows[row], nullptr};
      ++count;
    }
    kernel_.multiply(expand_, rows, count, width_, first_panel, last_panel);
  }
}

// Rows [first, last) of what is pooled. They lie where PlacePooledRows() has
// placed them, with `first` in front.
void Runner::ExpandAndPool(const float* x, int64_t first, int64_t last,
                           int64_t first_panel, int64_t last_panel,
                           const Buffer& buffer) const {
  const int64_t pitch = width_ * step_;
  const int64_t channel = first_panel * kPanelColumns;
  const float* sources[kRowsAtOnce];
  GemmRow rows[kRowsAtOnce];
  for (int64_t i = first; i < last;) {
    const int64_t end = std::min(last, i + kRowsAtOnce / 2);
    int64_t count = 0;
    for (int64_t pooled = i; pooled < end; ++pooled) {
      const int64_t row = 2 * pooled * unit_.strides[0];
      float* const to = buffer.pixels + 2 * (pooled - first) * pitch;
      for (int64_t lower = 0; lower < 2 && row + lower < shape_.height;
           ++lower) {
        sources[count] = x + (row + lower) * x_row_;
        rows[count] = {&sources[count], to + lower * pitch, nullptr};
        ++count;
      }
    }
    kernel_.multiply(expand_, rows, count, width_, first_panel, last_panel);
    for (; i < end; ++i) {
      const float* const upper =
          buffer.pixels + 2 * (i - first) * pitch + channel;
      const bool pair = 2 * i * unit_.strides[0] + 1 < shape_.height;
      // In place: where it begins, or before.
      kernel_.pool(upper, pair ? upper + pitch : upper, width_, step_,
                   (last_panel - first_panel) * kPanelColumns,
                   CeilDiv(width_, 2), buffer.rows[i] + channel);
    }
  }
}

// Rows [first, last) of y, from rows that are in the buffer.
void Runner::Project(const float* x, int64_t first, int64_t last,
                     int64_t first_panel, int64_t last_panel,
                     const Buffer& buffer, float* y) const {
  const int64_t pitch = y_shape_.width * y_shape_.channels;
  GemmRow rows[kRowsAtOnce];
  for (int64_t i = first; i < last;) {
    int64_t count = 0;
    for (; i < last && count < kRowsAtOnce; ++i, ++count) {
      rows[count] = {buffer.rows + i * row_stride_, y + i * pitch,
                     unit_.residual ? x + i * x_row_ : nullptr};
    }
    kernel_.multiply(project_, rows, count, y_shape_.width, first_panel,
                     last_panel);
  }
}

// The channels that are not expanded.
void Runner::CopyOthers(const float* x, int64_t first, int64_t last,
                        float* y) const {
  const int64_t others = shape_.channels - unit_.expanded;
  if (others == 0) return;
  const int64_t begin = first * shape_.width;
  kernel_.copy(x + begin * shape_.channels + unit_.expanded, shape_.channels,
               (last - first) * shape_.width, others,
               y + begin * y_shape_.channels + unit_.filters,
               y_shape_.channels);
}

// Rows [first, last) of y, on this thread alone.
void Runner::RunBand(const float* x, int64_t first, int64_t last, float* y) {
  const int64_t slot_bytes = std::max<int64_t>(1, SlotFloats() * sizeof(float));
  const int64_t halo = row_before_ + row_after_;
  const int64_t slots = std::min(
      height_, std::max((last - first) * row_stride_ + halo, int64_t{1}));
  const int64_t affordable = std::max(kBandBytes / slot_bytes, halo + 1);
  const int64_t kept = std::min(slots, affordable);
  // How many rows of y the kept ones make.
  int64_t at_once = last - first;
  if (kept < slots) {
    at_once = (kept - halo - 1) / row_stride_ + 1;
    if (at_once > 1) at_once -= at_once % 2;  // two rows make a tile
  }
  Buffer buffer;
  if (!Reserve(kept, &buffer)) return;

  int64_t expanded = std::max<int64_t>(0, first * row_stride_ - row_before_);
  for (int64_t i = first; i < last; i += at_once) {
    const int64_t end = std::min(last, i + at_once);
    if (pooled_) {
      PlacePooledRows(i, end, buffer);
      ExpandAndPool(x, i, end, 0, panels_, buffer);
    } else {
      const int64_t needed =
          std::min(height_, (end - 1) * row_stride_ + row_after_ + 1);
      Expand(x, expanded, needed, 0, panels_, buffer);
      expanded = std::max(expanded, needed);
    }
    Project(x, i, end, 0, y_panels_, buffer, y);
    CopyOthers(x, i, end, y);
  }
  scratch.ReleaseIfLarge();
}

// Each thread expands what its rows of y need. Neighbours expand a few rows
// both.
void Runner::RunInBands(int64_t threads) {
  const int64_t height = y_shape_.height;
  int64_t bands = 1;
  if (threads > 1 && shape_.batch < 4 * threads) {
    const int64_t halo = row_before_ + row_after_;
    // Two a thread even out what else the machine is doing, unless that makes
    // neighbours expand a lot both.
    const int64_t fair = CeilDiv(threads, shape_.batch);
    bands = height / (2 * fair) < 8 * halo ? fair : 2 * fair;
    bands = std::min(bands, std::max<int64_t>(1, height / (2 + halo)));
  }
  const int64_t x_image = shape_.height * shape_.width * shape_.channels;
  const int64_t y_image = height * y_shape_.width * y_shape_.channels;
  const SameRounding rounding;
  ParallelFor(shape_.batch * bands, threads, [&](int64_t index, int64_t) {
    rounding.Call([&] {
      const int64_t image = index / bands;
      const int64_t band = index % bands;
      RunBand(x_ + image * x_image, height * band / bands,
              height * (band + 1) / bands, y_ + image * y_image);
    });
  });
}

// Cuts rows and panels into parts for ParallelFor(). Panels first, since then
// each thread reads its own weights only; those that are multiplied together
// stay together, and so do pairs of rows.
class Parts {
 public:
  Parts(int64_t rows, int64_t panels, int64_t panels_at_once, int64_t wanted)
      : rows_(rows), panels_(panels), panels_at_once_(panels_at_once) {
    const int64_t units = CeilDiv(panels, panels_at_once);
    panel_parts_ = std::min(units, wanted);
    row_parts_ = std::min(CeilDiv(rows, 2), CeilDiv(wanted, panel_parts_));
  }

  int64_t count() const { return panel_parts_ * row_parts_; }

  // Calls function(first_row, last_row, first_panel, last_panel).
  template <typename Function>
  void Call(int64_t part, const Function& function) const {
    const int64_t panel_part = part / row_parts_;
    const int64_t row_part = part % row_parts_;
    const int64_t units = CeilDiv(panels_, panels_at_once_);
    const int64_t pairs = CeilDiv(rows_, 2);
    const auto row = [&](int64_t p) {
      return std::min(rows_, pairs * p / row_parts_ * 2);
    };
    const auto panel = [&](int64_t p) {
      return std::min(panels_, units * p / panel_parts_ * panels_at_once_);
    };
    function(row(row_part), row(row_part + 1), panel(panel_part),
             panel(panel_part + 1));
  }

 private:
  const int64_t rows_;
  const int64_t panels_;
  const int64_t panels_at_once_;
  int64_t panel_parts_;
  int64_t row_parts_;
};

// All threads expand into one buffer, and then all project from it. No row is
// expanded twice.
void Runner::RunInPhases(int64_t threads) {
  Buffer buffer;
  if (!Reserve(height_, &buffer)) return;
  if (pooled_) PlacePooledRows(0, height_, buffer);
  constexpr int64_t kPartsPerThread = 4;
  const int64_t wanted = threads * kPartsPerThread;
  // Pooled rows overwrite others, of the same panels.
  const Parts expanding(pooled_ ? 1 : height_, panels_, kernel_.panels_per_tile,
                        wanted);
  const Parts projecting(y_shape_.height, y_panels_, kernel_.panels_per_tile,
                         wanted);
  const int64_t x_image = shape_.height * shape_.width * shape_.channels;
  const int64_t y_image = y_shape_.height * y_shape_.width * y_shape_.channels;
  // One loop for all of it, as helpers take long to wake up: images one after
  // the other, and of each these two phases.
  const int64_t phases[] = {expanding.count(), projecting.count()};
  const int64_t parts = phases[0] + phases[1];
  const SameRounding rounding;
  std::atomic<int64_t> done{0};
  ParallelFor(shape_.batch * parts, threads, [&](int64_t index, int64_t) {
    const int64_t image = index / parts;
    const int64_t part = index % parts;
    const bool projects = part >= phases[0];
    const float* const x = x_ + image * x_image;
    float* const y = y_ + image * y_image;
    // Those that it builds upon have begun, as indices are taken in order.
    const int64_t before = image * parts + (projects ? phases[0] : 0);
    while (done.load(std::memory_order_acquire) < before) {
      std::this_thread::yield();
    }
    rounding.Call([&] {
      if (projects) {
        projecting.Call(
            part - phases[0], [&](int64_t first, int64_t last,
                                  int64_t first_panel, int64_t last_panel) {
              Project(x, first, last, first_panel, last_panel, buffer, y);
              if (first_panel == 0) CopyOthers(x, first, last, y);
            });
      } else {
        expanding.Call(part, [&](int64_t first, int64_t last,
                                 int64_t first_panel, int64_t last_panel) {
          if (pooled_) {
            ExpandAndPool(x, 0, height_, first_panel, last_panel, buffer);
          } else {
            Expand(x, first, last, first_panel, last_panel, buffer);
          }
        });
      }
    });
    done.fetch_add(1, std::memory_order_release);
  });
  scratch.ReleaseIfLarge();
}

Status Runner::Run(int64_t num_threads) {
  // Approximately, as numbers that large.
  const double products =
      static_cast<double>(shape_.batch) * unit_.hidden *
      (static_cast<double>(height_) * width_ * unit_.expanded +
       static_cast<double>(y_shape_.height) * y_shape_.width * unit_.filters);
  const int64_t wanted = num_threads == 0 ? NumCores() : num_threads;
  const int64_t threads = static_cast<int64_t>(std::clamp<double>(
      products / kProductsPerThread, 1, static_cast<double>(wanted)));
  const bool fits = SlotFloats() * static_cast<int64_t>(sizeof(float)) <=
                    kSharedBytes / height_;
  if (threads > 1 && shape_.batch < threads && fits) {
    RunInPhases(threads);
  } else {
    RunInBands(threads);
  }
  return out_of_memory_ ? Status::OutOfMemory() : Status();
}

Status Fused(const ImageShape& shape, const FusedUnit& unit, const float* x,
             const float* expand, const float* project,
             const int32_t* displacements, int64_t num_threads, float* y) {
  ImageShape y_shape;
  Status status = CheckUnit(shape, unit, &y_shape);
  if (!status.ok()) return status;
  status = CheckArguments(shape, sizeof(float), num_threads);
  if (!status.ok()) return status;
  if (unit.pooling != Pooling::kNone) {
    const int32_t* const end = displacements + 2 * unit.hidden;
    const int32_t* const other =
        std::find_if(displacements, end, [](int32_t d) { return d != 0; });
    if (other != end) {
      return Refused(
          "Argument `displacements` must be zero where there is pooling",
          "displacement", *other);
    }
  }
  if (NumElements(y_shape) == 0) return Status();
  return Runner(shape, unit, y_shape, x, expand, project, displacements, y)
      .Run(num_threads);
}

}  // namespace

Status FusedUnitShape(const ImageShape& shape, const FusedUnit& unit,
                      ImageShape* y_shape) noexcept {
  try {
    return CheckUnit(shape, unit, y_shape);
  } catch (const std::exception&) {
    return Status::OutOfMemory();
  }
}

Status FusedUnit2D(const ImageShape& shape, const FusedUnit& unit,
                   const float* x, const float* expand, const float* project,
                   const int32_t* displacements, int64_t num_threads,
                   float* y) noexcept {
  try {
    return Fused(shape, unit, x, expand, project, displacements, num_threads,
                 y);
  } catch (const std::exception&) {  // bad_alloc, or a vector's length_error
    return Status::OutOfMemory();
  }
}

}  // namespace keras_shift
