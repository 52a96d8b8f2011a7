// The gradients of the sparse shift, in one pass over the images.
//
// Eq. 6 needs x at the four pixels around i + d, which are different ones for
// each channel. So x is shifted by round(d) first, a row at a time, into a
// buffer that holds three rows with two pixels more than the image has. There,
// the four pixels are among the nine around i for all channels alike; which of
// them they are is a choice between two rows, and between two columns. What
// remains are four sums of products, s[a, b] in shift.h. While the row of the
// upstream gradient is still in the cache, it is shifted back (Eq. 7).
//
// Shifted by floor(d), the four pixels would need no choice. But channels with
// the same round(d), which may well be neighbours, have up to four floor(d) in
// no order, and moving them takes longer than choosing.
//
// With many channels, a few rows of all of them do not fit into the first-level
// cache. So an image is worked on slice by slice: all rows of some channels,
// then all rows of the next ones.
//
// No hardware prefetcher foresees the rows of a slice. So the rows that are
// needed two steps later are prefetched, pixel by pixel, while others are
// summed up. Without slices that would only add work.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "custom_ops/cc/arguments.h"
#include "custom_ops/cc/filters.h"
#include "custom_ops/cc/isa.h"
#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/shift.h"
#include "custom_ops/cc/shift_plan.h"
#include "custom_ops/cc/shift_plan_cache.h"
#include "custom_ops/cc/thread_pool.h"
#include "custom_ops/cc/workspace.h"

namespace keras_shift {
namespace {

// Sums of floats are added to sums of doubles at the end of the row in which
// they reach so many terms. These are few enough to lose no digits that matter,
// and enough to make the time for it negligible.
constexpr int64_t kTermsInFloat = 256;

// The channels of a slice: three rows of x that are shifted have to take no
// more than half of a first-level cache of 48 KB.
int64_t SliceChannels(int64_t width, int64_t element_size) {
  constexpr int64_t kBytes = 24 << 10;
  const int64_t most = kBytes / (3 * (width + 2) * element_size);
  return std::max<int64_t>(1, most / kMostLanes) * kMostLanes;
}

int64_t SumSize(FloatType type) {
  return type == FloatType::kDouble ? sizeof(double) : sizeof(float);
}

// The displacements of all channels, taken apart. Each vector is laid out like
// the displacements.
struct Displacements {
  std::vector<int32_t> before;   // round(d) - 1
  std::vector<int32_t> below;    // floor(d) - round(d)
  std::vector<int32_t> inverse;  // -round(d)
  std::vector<double> fraction;  // d - floor(d)
};

// There are no library calls in the loop, and no branches that depend on
// fractions, half of which would be mispredicted. With many channels on a small
// image, they would matter as much as the sums.
template <typename Number>
Displacements TakeApart(const Number* displacements, int64_t channels) {
  // The greatest displacement that Shift2D() can take, which is safe to negate.
  constexpr double kFar = std::numeric_limits<int32_t>::max();
  // A number so large that the last bit of a sum with it stands for 1. Adding
  // it rounds to a whole number, half to even.
  constexpr double kRound = 0x1.8p52;
  const int64_t count = 2 * channels;
  Displacements result;
  result.before.resize(count);
  result.below.resize(count);
  result.inverse.resize(count);
  result.fraction.resize(count);
  int32_t* const befores = result.before.data();
  int32_t* const belows = result.below.data();
  int32_t* const inverses = result.inverse.data();
  double* const fractions = result.fraction.data();
  for (int64_t k = 0; k < count; ++k) {
    const double exact = static_cast<double>(displacements[k]);
    // A NaN remains in the fraction, and so in the gradient of the channel. In
    // all other respects it moves the channel out of the image.
    const double near = std::min(std::max(exact, -kFar), kFar);
    const double d = near == near ? near : kFar;
    const double rounded = (d + kRound) - kRound;
    const int32_t nearest = static_cast<int32_t>(rounded);
    const int32_t below = -static_cast<int32_t>(rounded > d);
    befores[k] = nearest - 1;
    belows[k] = below;
    inverses[k] = -nearest;
    fractions[k] = near - (rounded + below);
  }
  return result;
}

// ---------------------------------------------------------------------------
// What is decided once per call.

// The rows of some images that are summed up together.
struct Block {
  int64_t first_image;
  int64_t last_image;
  int64_t first_row;
  int64_t last_row;
};

// Divides the rows of all images into blocks. Where they begin follows from the
// shape alone, and never from the number of threads. So the order of all
// additions, and the result to the last bit, is always the same.
class Blocks {
 public:
  explicit Blocks(const ImageShape& shape)
      : shape_(shape),
        images_per_block_(CeilDiv(shape.batch, kMost)),
        blocks_per_image_(
            std::clamp<int64_t>(kMost / 2 / shape.batch, 1,
                                std::max<int64_t>(1, shape.height / 8))) {}

  int64_t count() const {
    return CeilDiv(shape_.batch, images_per_block_) * blocks_per_image_;
  }

  Block operator[](int64_t index) const {
    const int64_t first_image = index / blocks_per_image_ * images_per_block_;
    const int64_t part = index % blocks_per_image_;
    return {
        .first_image = first_image,
        .last_image = std::min(shape_.batch, first_image + images_per_block_),
        .first_row = shape_.height * part / blocks_per_image_,
        .last_row = shape_.height * (part + 1) / blocks_per_image_};
  }

 private:
  // Enough blocks for many threads. Each of them has two doubles a channel to
  // keep, and shifts two rows more than it has.
  static constexpr int64_t kMost = 64;

  const ImageShape shape_;
  const int64_t images_per_block_;
  const int64_t blocks_per_image_;
};

// The channels of a slice, as ShiftPlan has them.
struct Slice {
  int64_t index;
  // In bytes.
  int64_t begin;
  int64_t bytes;
  int64_t first_channel;
  int64_t channels;
};

// What all blocks share.
struct GradientPlan {
  // The shape must have been checked, and no dimension may be zero.
  GradientPlan(const ImageShape& shape, FloatType type, bool relu,
               Displacements displacements)
      : shape(shape),
        type(type),
        relu(relu),
        element_size(ElementSize(type)),
        row_bytes(shape.width * shape.channels * element_size),
        displacements(std::move(displacements)),
        sum_kernel(BestSumKernel(type, shape.channels)),
        blocks(shape),
        relu_filter(ReluFilter(type)) {
    MakeShiftPlans();
  }

  int64_t num_slices() const { return shift_back->num_slices(); }

  Slice slice(int64_t index) const {
    const int64_t begin = shift_back->slice_begin(index);
    const int64_t bytes = shift_back->slice_bytes(index);
    return {.index = index,
            .begin = begin,
            .bytes = bytes,
            .first_channel = begin / element_size,
            .channels = bytes / element_size};
  }

  int64_t LargestSliceBytes() const {
    int64_t largest = 0;
    for (int64_t s = 0; s < num_slices(); ++s) {
      largest = std::max(largest, shift_back->slice_bytes(s));
    }
    return largest;
  }

  // The sums that the kernel keeps of so many channels.
  int64_t NumSums(int64_t channels) const {
    return 4 * CeilDiv(channels, sum_kernel.lanes) * sum_kernel.lanes;
  }

  const ImageShape shape;
  const FloatType type;
  const bool relu;
  const int64_t element_size;
  const int64_t row_bytes;
  const Displacements displacements;
  const SumKernel& sum_kernel;
  const Blocks blocks;
  const Filter relu_filter;
  // Shifts the upstream gradient back.
  std::shared_ptr<const ShiftPlan> shift_back;
  // Shifts x to images with a border of a pixel: row i of these belongs to row
  // i - 1 of the image, and columns likewise.
  std::shared_ptr<const ShiftPlan> shift_x;

 private:
  void MakeShiftPlans();
};

void GradientPlan::MakeShiftPlans() {
  const ShiftKernel& kernel = BestShiftKernel(shape.channels * element_size);
  PlanShape plan_shape = {
      .height = shape.height,
      .width = shape.width,
      .output_height = shape.height,
      .output_width = shape.width,
      .channels = shape.channels,
      .element_size = element_size,
      .slice_channels = SliceChannels(shape.width, element_size),
      .residence = ResidenceOf(NumElements(shape) * element_size)};
  shift_back =
      FindOrMakeShiftPlan(plan_shape, displacements.inverse.data(), kernel);
  plan_shape.output_height += 2;
  plan_shape.output_width += 2;
  shift_x =
      FindOrMakeShiftPlan(plan_shape, displacements.before.data(), kernel);
}

// The arrays of a call.
struct GradientArrays {
  const unsigned char* x;
  const unsigned char* upstream;
  unsigned char* input_gradient;
};

// ---------------------------------------------------------------------------
// A block.

// Turns s[a, b] into the gradient of the displacements (Eq. 6).
void DisplacementGradient(const double* totals, int64_t lanes, int64_t channels,
                          const double* fraction, double* gradient) {
  // The last vector ends with the last channel, and may begin with channels of
  // the vector before it (see SumKernel).
  for (int64_t begin = 0; begin < channels; begin += lanes) {
    const int64_t skipped = begin - std::min(begin, channels - lanes);
    const double* const s = totals + 4 * begin + skipped;
    const double* const fraction_0 = fraction + begin;
    const double* const fraction_1 = fraction_0 + channels;
    double* const gradient_0 = gradient + begin;
    double* const gradient_1 = gradient_0 + channels;
    for (int64_t lane = 0; lane < lanes - skipped; ++lane) {
      const double s_00 = s[lane];
      const double s_01 = s[lanes + lane];
      const double s_10 = s[2 * lanes + lane];
      const double s_11 = s[3 * lanes + lane];
      const double r_0 = fraction_0[lane];
      const double r_1 = fraction_1[lane];
      gradient_0[lane] = (1 - r_1) * (s_10 - s_00) + r_1 * (s_11 - s_01);
      gradient_1[lane] = (1 - r_0) * (s_01 - s_00) + r_0 * (s_11 - s_10);
    }
  }
}

// Computes the gradients of blocks, one at a time. Each thread has a worker of
// its own, in cache lines of its own, since it counts its terms row by row.
class alignas(64) BlockWorker {
 public:
  BlockWorker(const GradientPlan& plan, const GradientArrays& arrays)
      : BlockWorker(plan, arrays,
                    (plan.shape.width + 2) * plan.LargestSliceBytes(),
                    plan.NumSums(plan.shape.channels)) {}

  // Writes the input gradient of the block, and its part of the gradient of the
  // displacements to `displacement_gradient`.
  void Run(const Block& block, double* displacement_gradient) {
    terms_ = 0;
    for (int64_t n = block.first_image; n < block.last_image; ++n) {
      const int64_t terms_before = terms_;
      for (int64_t s = 0; s < plan_.num_slices(); ++s) {
        terms_ = terms_before;
        AddSlice(block, n, plan_.slice(s));
      }
    }
    Flush(0, plan_.shape.channels);
    DisplacementGradient(
        totals_.data(), plan_.sum_kernel.lanes, plan_.shape.channels,
        plan_.displacements.fraction.data(), displacement_gradient);
    std::fill(totals_.begin(), totals_.end(), 0.0);
  }

 private:
  BlockWorker(const GradientPlan& plan, const GradientArrays& arrays,
              int64_t row_bytes, int64_t num_sums)
      : plan_(plan), arrays_(arrays), totals_(num_sums) {
    const int64_t sum_bytes = num_sums * SumSize(plan.type);
    for (Workspace& row : rows_) ReserveOrThrow(row_bytes, &row);
    ReserveOrThrow(sum_bytes, &sums_);
    std::fill_n(sums_.data(), sum_bytes, 0);
  }

  static void ReserveOrThrow(int64_t bytes, Workspace* workspace) {
    if (workspace->Reserve(bytes) == nullptr) throw std::bad_alloc();
  }

  // Where a row of an image begins, in bytes.
  int64_t RowBegin(int64_t image, int64_t row) const {
    return (image * plan_.shape.height + row) * plan_.row_bytes;
  }

  // Row i of x that is shifted.
  unsigned char* ShiftedRow(int64_t i) { return rows_[i % 3].data(); }

  unsigned char* SumsFrom(int64_t channel) {
    return sums_.data() + 4 * channel * SumSize(plan_.type);
  }

  void Flush(int64_t first_channel, int64_t channels) {
    plan_.sum_kernel.flush(SumsFrom(first_channel),
                           totals_.data() + 4 * first_channel,
                           plan_.NumSums(channels));
  }

  // Handles the rows of the block in one image, for the channels of a slice.
  void AddSlice(const Block& block, int64_t image, const Slice& slice) {
    ShiftX(image, slice, block.first_row);
    ShiftX(image, slice, block.first_row + 1);
    for (int64_t i = block.first_row; i < block.last_row; ++i) {
      ShiftX(image, slice, i + 2);
      AddRow(block, image, slice, i);
      ShiftUpstreamBack(image, slice, i);
    }
  }

  void ShiftX(int64_t image, const Slice& slice, int64_t i) {
    plan_.shift_x->ShiftRows(slice.index, arrays_.x + RowBegin(image, 0), i,
                             i + 1, plan_.shape.width + 2,
                             plan_.relu ? &plan_.relu_filter : nullptr,
                             ShiftedRow(i), slice.bytes);
  }

  void AddRow(const Block& block, int64_t image, const Slice& slice,
              int64_t i) {
    const int64_t channels = plan_.shape.channels;
    const int32_t* const below = plan_.displacements.below.data();
    const bool prefetch = plan_.num_slices() > 1;
    const auto next = [&](const unsigned char* array, int64_t row) {
      return prefetch ? array + NextRowBegin(block, image, slice, row)
                      : nullptr;
    };
    const SumRow row = {
        .columns = plan_.shape.width,
        .channels = slice.channels,
        .g = arrays_.upstream + RowBegin(image, i) + slice.begin,
        .g_stride = channels,
        .next_g = next(arrays_.upstream, i + 2),
        .next_x = next(arrays_.x, i + 3),
        .x = {ShiftedRow(i), ShiftedRow(i + 1), ShiftedRow(i + 2)},
        .row_below = below + slice.first_channel,
        .column_below = below + channels + slice.first_channel};
    plan_.sum_kernel.add_row(row, SumsFrom(slice.first_channel));
    terms_ += plan_.shape.width;
    if (terms_ >= kTermsInFloat) {
      Flush(slice.first_channel, slice.channels);
      terms_ = 0;
    }
  }

  // Where row i of a slice begins. The rows that are needed after the last row
  // of the slice, which lies below the block's, are the first ones of the next
  // slice or image.
  int64_t NextRowBegin(const Block& block, int64_t image, const Slice& slice,
                       int64_t i) const {
    const int64_t end = std::min(block.last_row + 1, plan_.shape.height);
    if (i < end) return RowBegin(image, i) + slice.begin;
    const bool last = slice.index + 1 == plan_.num_slices();
    const int64_t next_image = std::min(image + last, plan_.shape.batch - 1);
    const int64_t next_row =
        std::min(block.first_row + i - end, plan_.shape.height - 1);
    return RowBegin(next_image, next_row) +
           (last ? 0 : plan_.slice(slice.index + 1).begin);
  }

  void ShiftUpstreamBack(int64_t image, const Slice& slice, int64_t i) {
    const int64_t row = RowBegin(image, i);
    const Filter positive = PositiveFilter(plan_.type, arrays_.x + row);
    plan_.shift_back->ShiftRowsOfAll(
        slice.index, arrays_.upstream + RowBegin(image, 0), i, i + 1,
        plan_.shape.width, plan_.relu ? &positive : nullptr,
        arrays_.input_gradient + row);
  }

  const GradientPlan& plan_;
  const GradientArrays& arrays_;
  // The latest three rows of x that are shifted.
  Workspace rows_[3];
  // As in SumKernel; they are zero between two blocks.
  Workspace sums_;
  // What was flushed from the sums.
  std::vector<double> totals_;
  // The terms in each of the sums since they were flushed.
  int64_t terms_ = 0;
};

// ---------------------------------------------------------------------------
// A call.

// Computes the input gradient, and returns that of the displacements.
std::vector<double> RunBlocks(const GradientPlan& plan,
                              const GradientArrays& arrays, int64_t threads) {
  const int64_t count = plan.blocks.count();
  const int64_t num_displacements = 2 * plan.shape.channels;
  threads = std::min(count, threads);
  // Unlike a vector, a deque never moves what it holds.
  std::deque<BlockWorker> workers;
  for (int64_t t = 0; t < threads; ++t) workers.emplace_back(plan, arrays);
  std::vector<double> gradients(count * num_displacements);
  ParallelFor(count, threads, [&](int64_t block, int64_t worker) {
    workers[worker].Run(plan.blocks[block],
                        gradients.data() + block * num_displacements);
  });
  // The gradient of the first block becomes that of all.
  for (int64_t block = 1; block < count; ++block) {
    for (int64_t k = 0; k < num_displacements; ++k) {
      gradients[k] += gradients[block * num_displacements + k];
    }
  }
  gradients.resize(num_displacements);
  return gradients;
}

template <typename Number>
Status Gradients(const ImageShape& shape, FloatType type, bool relu,
                 const Number* displacements, int64_t num_threads,
                 const GradientArrays& arrays, Number* displacement_gradient) {
  const int64_t element_size = ElementSize(type);
  const Status status = CheckArguments(shape, element_size, num_threads);
  if (!status.ok()) return status;
  const int64_t bytes = NumElements(shape) * element_size;
  if (bytes == 0) {
    // Sums without terms, between which the displacement along the other axis
    // interpolates, as far as it is a number.
    for (int64_t k = 0; k < 2 * shape.channels; ++k) {
      const Number other =
          displacements[(k + shape.channels) % (2 * shape.channels)];
      displacement_gradient[k] = std::isnan(other) ? other : Number{0};
    }
    return status;
  }
  const GradientPlan plan(shape, type, relu,
                          TakeApart(displacements, shape.channels));
  const std::vector<double> gradient =
      RunBlocks(plan, arrays, WorthwhileThreads(bytes, num_threads));
  std::copy(gradient.begin(), gradient.end(), displacement_gradient);
  return Status();
}

}  // namespace

Status SparseShift2DGrad(const ImageShape& shape, FloatType type, const void* x,
                         bool relu, const void* upstream,
                         FloatType displacement_type, const void* displacements,
                         int64_t num_threads, void* input_gradient,
                         void* displacement_gradient) noexcept {
  const GradientArrays arrays = {
      .x = static_cast<const unsigned char*>(x),
      .upstream = static_cast<const unsigned char*>(upstream),
      .input_gradient = static_cast<unsigned char*>(input_gradient)};
  const auto gradients = [&](auto number) {
    using Number = decltype(number);
    return Gradients(shape, type, relu,
                     static_cast<const Number*>(displacements), num_threads,
                     arrays, static_cast<Number*>(displacement_gradient));
  };
  try {
    switch (displacement_type) {
      case FloatType::kFloat:
        return gradients(float());
      case FloatType::kDouble:
        return gradients(double());
      case FloatType::kHalf:
      case FloatType::kBfloat16:
        break;
    }
    return Status::InvalidArgument(
        "Argument `displacements` must hold float or double. Received: half or "
        "bfloat16");
  } catch (const std::exception&) {
    // This is std::bad_alloc, or a vector's std::length_error.
    return Status::OutOfMemory();
  }
}

}  // namespace keras_shift
