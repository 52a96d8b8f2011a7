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
// With many channels, a few rows of them all do not fit into the first cache.
// So an image is worked on slice by slice: all rows of some channels, then all
// rows of the next.
//
// No prefetcher foresees the rows of a slice. So those that are needed two
// steps later are asked for, pixel by pixel, while others are summed up.
// Without slices that would only add work.

#include <algorithm>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "custom_ops/cc/arguments.h"
#include "custom_ops/cc/filters.h"
#include "custom_ops/cc/isa.h"
#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/shift.h"
#include "custom_ops/cc/shift_plan.h"
#include "custom_ops/cc/shift_plan_cache.h"
#include "custom_ops/cc/thread_pool.h"

namespace keras_shift {
namespace {

// Sums of floats are moved to double at the end of the row in which they reach
// so many terms: few enough to lose nothing that matters, enough to cost
// nothing.
constexpr int64_t kTermsInFloat = 256;

// Of which three rows of x, shifted, take half of a first cache of 48 KB.
int64_t SliceChannels(int64_t width, int64_t element_size) {
  constexpr int64_t kBytes = 24 << 10;
  const int64_t most = kBytes / (3 * (width + 2) * element_size);
  return std::max<int64_t>(1, most / kMostLanes) * kMostLanes;
}

int64_t SumSize(FloatType type) {
  return type == FloatType::kDouble ? sizeof(double) : sizeof(float);
}

// Memory for vectors; holds anything at first.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(int64_t bytes) : lines_(new Line[(bytes + 63) / 64]) {}
  unsigned char* data() {
    return reinterpret_cast<unsigned char*>(lines_.get());
  }

 private:
  struct alignas(64) Line {
    unsigned char bytes[64];
  };
  std::unique_ptr<Line[]> lines_;
};

// The displacements of all channels, taken apart; laid out like them.
struct Displacements {
  std::vector<int32_t> before;   // round(d) - 1
  std::vector<int32_t> below;    // floor(d) - round(d)
  std::vector<int32_t> inverse;  // -round(d)
  std::vector<double> fraction;  // d - floor(d)
};

// Without library calls, and without branches that depend on fractions, half of
// which would be mispredicted: with many channels on a small image, these took
// as much time as the sums.
template <typename Number>
Displacements TakeApart(const Number* displacements, int64_t channels) {
  // The greatest that Shift2D() can take, and safe to negate.
  constexpr double kFar = std::numeric_limits<int32_t>::max();
  // So large that the last bit of a sum stands for 1: adding it rounds, half to
  // even.
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
    // What is not a number stays so, and with it the fraction and a gradient of
    // the channel; all else moves out of the image as if it were far away.
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

// How the rows of all images are divided into blocks that are summed up apart.
// It follows from the shape alone, and never from the number of threads: so the
// order of all additions, and the result to the last bit, is always the same.
class Blocks {
 public:
  explicit Blocks(const ImageShape& shape)
      : shape_(shape),
        images_((shape.batch + kMost - 1) / kMost),
        parts_(std::clamp<int64_t>(kMost / 2 / shape.batch, 1,
                                   std::max<int64_t>(1, shape.height / 8))) {}

  int64_t count() const {
    return (shape_.batch + images_ - 1) / images_ * parts_;
  }
  int64_t first_image(int64_t block) const { return block / parts_ * images_; }
  int64_t last_image(int64_t block) const {
    return std::min(shape_.batch, first_image(block) + images_);
  }
  int64_t first_row(int64_t block) const {
    return shape_.height * (block % parts_) / parts_;
  }
  int64_t last_row(int64_t block) const {
    return shape_.height * (block % parts_ + 1) / parts_;
  }

 private:
  // Enough for many threads. Each block has two doubles a channel to keep, and
  // shifts two rows more than it has.
  static constexpr int64_t kMost = 64;

  const ImageShape shape_;
  const int64_t images_;  // a block
  const int64_t parts_;   // an image
};

// What a thread works on.
struct Scratch {
  Scratch(int64_t row_bytes, int64_t num_sums, int64_t sum_size)
      : rows{AlignedBuffer(row_bytes), AlignedBuffer(row_bytes),
             AlignedBuffer(row_bytes)},
        sums(num_sums * sum_size),
        totals(num_sums) {
    std::fill_n(sums.data(), num_sums * sum_size, 0);
  }

  AlignedBuffer rows[3];       // of shifted x; row i is in rows[i % 3]
  AlignedBuffer sums;          // as in SumKernel; zero between two blocks
  std::vector<double> totals;  // what was flushed from `sums`
};

// Turns s[a, b] into the gradient of the displacements (Eq. 6).
void Gradient(const double* totals, int64_t lanes, int64_t channels,
              const double* fraction, double* gradient) {
  // The last vector ends with the last channel, and may begin with channels of
  // the one before (see SumKernel).
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

template <typename Number>
Status Gradients(const ImageShape& shape, FloatType type,
                 const unsigned char* x, bool relu,
                 const unsigned char* upstream, const Number* displacements,
                 int64_t num_threads, unsigned char* input_gradient,
                 Number* displacement_gradient) {
  const int64_t element_size = ElementSize(type);
  const Status status = CheckArguments(shape, element_size, num_threads);
  if (!status.ok()) return status;
  const int64_t channels = shape.channels;
  const Displacements parts = TakeApart(displacements, channels);
  const int64_t bytes = NumElements(shape) * element_size;
  if (bytes == 0) {
    std::fill_n(displacement_gradient, 2 * channels, Number{0});
    return status;
  }

  const int64_t pixel_bytes = channels * element_size;
  const ShiftKernel& shift_kernel = BestShiftKernel(pixel_bytes);
  PlanShape plan_shape = {shape.height,
                          shape.width,
                          shape.height,
                          shape.width,
                          shape.channels,
                          element_size,
                          SliceChannels(shape.width, element_size),
                          ResidenceOf(bytes)};
  const auto shift_back =
      FindOrMakeShiftPlan(plan_shape, parts.inverse.data(), shift_kernel);
  // Row i of what this makes belongs to row i - 1 of the image; columns
  // likewise.
  plan_shape.output_height += 2;
  plan_shape.output_width += 2;
  const auto shift_x =
      FindOrMakeShiftPlan(plan_shape, parts.before.data(), shift_kernel);

  const SumKernel& sum_kernel = BestSumKernel(type, channels);
  const auto num_sums = [&](int64_t some_channels) {
    const int64_t lanes = sum_kernel.lanes;
    return 4 * ((some_channels + lanes - 1) / lanes) * lanes;
  };
  int64_t largest_slice = 0;
  for (int64_t s = 0; s < shift_back->num_slices(); ++s) {
    largest_slice = std::max(largest_slice, shift_back->slice_bytes(s));
  }

  const Blocks blocks(shape);
  const int64_t threads =
      std::min(blocks.count(), WorthwhileThreads(bytes, num_threads));
  std::vector<Scratch> scratches;
  for (int64_t t = 0; t < threads; ++t) {
    scratches.emplace_back((shape.width + 2) * largest_slice,
                           num_sums(channels), SumSize(type));
  }
  std::vector<double> block_gradients(blocks.count() * 2 * channels);
  const Filter relu_filter = ReluFilter(type);
  const bool sliced = shift_back->num_slices() > 1;

  ParallelFor(blocks.count(), threads, [&](int64_t block, int64_t worker) {
    Scratch& scratch = scratches[worker];
    const auto row = [&](int64_t i) { return scratch.rows[i % 3].data(); };
    const auto sums_from = [&](int64_t channel) {
      return scratch.sums.data() + 4 * channel * SumSize(type);
    };
    const auto flush = [&](int64_t channel, int64_t some_channels) {
      sum_kernel.flush(sums_from(channel), scratch.totals.data() + 4 * channel,
                       num_sums(some_channels));
    };
    const int64_t row_bytes = shape.width * pixel_bytes;
    const int64_t first_row = blocks.first_row(block);
    int64_t terms = 0;
    for (int64_t n = blocks.first_image(block); n < blocks.last_image(block);
         ++n) {
      const int64_t image = n * shape.height * row_bytes;
      const int64_t terms_before = terms;
      for (int64_t s = 0; s < shift_back->num_slices(); ++s) {
        const int64_t slice_begin = shift_back->slice_begin(s);
        const int64_t slice_bytes = shift_back->slice_bytes(s);
        const int64_t channel = slice_begin / element_size;
        const int64_t slice_channels = slice_bytes / element_size;
        const auto shift_row = [&](int64_t i) {
          shift_x->ShiftRows(s, x + image, i, i + 1, shape.width + 2,
                             relu ? &relu_filter : nullptr, row(i),
                             slice_bytes);
        };
        // Where row i of the slice begins. What is needed after its last one,
        // that below the block's, are rows of the next slice or image.
        const int64_t end = std::min(blocks.last_row(block) + 1, shape.height);
        const auto ahead = [&](int64_t i) {
          if (i < end) return image + i * row_bytes + slice_begin;
          const bool last = s + 1 == shift_back->num_slices();
          const int64_t image_index = std::min(n + last, shape.batch - 1);
          const int64_t row_index =
              std::min(first_row + i - end, shape.height - 1);
          return (image_index * shape.height + row_index) * row_bytes +
                 (last ? 0 : shift_back->slice_begin(s + 1));
        };
        terms = terms_before;
        shift_row(first_row);
        shift_row(first_row + 1);
        for (int64_t i = first_row; i < blocks.last_row(block); ++i) {
          const int64_t here = image + i * row_bytes;
          shift_row(i + 2);
          const SumRow sum_row = {shape.width,
                                  slice_channels,
                                  upstream + here + slice_begin,
                                  channels,
                                  sliced ? upstream + ahead(i + 2) : nullptr,
                                  sliced ? x + ahead(i + 3) : nullptr,
                                  {row(i), row(i + 1), row(i + 2)},
                                  parts.below.data() + channel,
                                  parts.below.data() + channels + channel};
          sum_kernel.add_row(sum_row, sums_from(channel));
          terms += shape.width;
          if (terms >= kTermsInFloat) {
            flush(channel, slice_channels);
            terms = 0;
          }
          const Filter positive = PositiveFilter(type, x + here);
          shift_back->ShiftRowsOfAll(s, upstream + image, i, i + 1, shape.width,
                                     relu ? &positive : nullptr,
                                     input_gradient + here);
        }
      }
    }
    flush(0, channels);
    Gradient(scratch.totals.data(), sum_kernel.lanes, channels,
             parts.fraction.data(),
             block_gradients.data() + block * 2 * channels);
    std::fill(scratch.totals.begin(), scratch.totals.end(), 0.0);
  });

  // The gradient of the first block becomes that of all.
  for (int64_t block = 1; block < blocks.count(); ++block) {
    for (int64_t k = 0; k < 2 * channels; ++k) {
      block_gradients[k] += block_gradients[block * 2 * channels + k];
    }
  }
  std::copy_n(block_gradients.begin(), 2 * channels, displacement_gradient);
  return Status();
}

}  // namespace

Status SparseShift2DGrad(const ImageShape& shape, FloatType type, const void* x,
                         bool relu, const void* upstream,
                         FloatType displacement_type, const void* displacements,
                         int64_t num_threads, void* input_gradient,
                         void* displacement_gradient) noexcept {
  const auto gradients = [&](auto number) {
    using Number = decltype(number);
    return Gradients(shape, type, static_cast<const unsigned char*>(x), relu,
                     static_cast<const unsigned char*>(upstream),
                     static_cast<const Number*>(displacements), num_threads,
                     static_cast<unsigned char*>(input_gradient),
                     static_cast<Number*>(displacement_gradient));
  };
  try {
    switch (displacement_type) {
      case FloatType::kFloat:
        return gradients(float());
      case FloatType::kDouble:
        return gradients(double());
      default:
        return Status::InvalidArgument(
            "Argument `displacements` must hold float or double.");
    }
  } catch (const std::exception&) {  // bad_alloc, or a vector's length_error
    return Status::OutOfMemory();
  }
}

}  // namespace keras_shift
