// The kernels: what is compiled once per instruction set.
//
// This header is all that those objects share with the rest. It holds plain
// structs only, on purpose: an inline function that is instantiated in two
// objects is kept once by the linker, and the copy that it keeps for everybody
// may be the one that was compiled for AVX-512.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_KERNELS_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_KERNELS_H_

#include <cstdint>

namespace keras_shift {

// ---------------------------------------------------------------------------
// Moving pixels.

// One of the displacements that occur in a vector.
struct Tap {
  int64_t row;
  int64_t column;
  // How far away the displaced pixel lies, in bytes.
  int64_t offset;
};

// A part of a pixel: a run of vectors that move as a whole, by one tap, or a
// single vector whose channels move by several, or not at all.
struct Segment {
  int64_t begin;          // where in the slice, in bytes
  int64_t whole_vectors;  // 0 if there is a mask for each tap
  int64_t first_tap;
  int64_t num_taps;
};

// A shift, prepared for the vectors of one kernel; made by ShiftPlan.
//
// Everything is counted in bytes, so that a kernel need not know the type.
struct ShiftPlanView {
  // The size of the image that is read, and of a pixel.
  int64_t height;
  int64_t width;
  int64_t pixel_bytes;
  // The slice of its channels that is moved.
  int64_t slice_begin;
  int64_t slice_bytes;
  // In rows [first_row, last_row) and columns [first_column, last_column), no
  // channel looks outside the image.
  int64_t first_row;
  int64_t last_row;
  int64_t first_column;
  int64_t last_column;
  // Whether to ask for rows in advance.
  bool prefetch;
  // All the segments together cover the slice; they may overlap.
  const Segment* segments;
  int64_t num_segments;
  const Tap* taps;
  // For each tap, which bytes of the vector it moves: in the form that
  // ShiftKernel::mask_bytes stands for.
  const unsigned char* masks;
};

// Which elements stay what they are where they are written; the others become
// zero. One stays if the bits of its gate, as an unsigned number with the sign
// bit flipped, are greater than `above` and not greater than `up_to`. In that
// order come
//
//   -0 to -infinity, NaNs with a sign, +0, what is greater up to +infinity,
//   NaNs without a sign.
struct Filter {
  int64_t element_size;  // 2, 4 or 8 bytes
  uint64_t above;
  uint64_t up_to;
  // Begins where `y` does, with pixels as far apart; null if each element is
  // its own gate.
  const unsigned char* gates;
};

// Writes rows [first_row, last_row) of the shifted slice to `y`, where row
// `first_row` begins; its pixels are `y_pixel_bytes` apart. Each row has
// `columns` of them, which may be more than the image is wide, and rows may lie
// below the image. `filter` may be null.
using ShiftRowsFunction = void (*)(const ShiftPlanView& plan,
                                   const unsigned char* image,
                                   int64_t first_row, int64_t last_row,
                                   int64_t columns, const Filter* filter,
                                   unsigned char* y, int64_t y_pixel_bytes);

struct ShiftKernel {
  // Pixels must not be smaller than a vector.
  int64_t vector_bytes;
  // The size of a mask: vector_bytes where a byte of the mask stands for a byte
  // of the vector (0 or 255), or 8 where it is a uint64_t with a bit for each.
  int64_t mask_bytes;
  ShiftRowsFunction shift_rows;
  // The same past the caches; null where the machine cannot. `y`, the pixels'
  // distance there and the size of the slice must be multiples of a vector.
  ShiftRowsFunction stream_rows;
};

// ---------------------------------------------------------------------------
// Summing products.

// What the sums of Eq. 6 are about, for one row of the upstream gradient.
struct SumRow {
  int64_t columns;
  int64_t channels;
  // The upstream gradient; pixels are `g_stride` elements apart.
  const void* g;
  int64_t g_stride;
  // Rows of the upstream gradient and of x, laid out like `g`, that are asked
  // for in advance; both or neither may be null.
  const void* next_g;
  const void* next_x;
  // Three successive rows of x, shifted by round(d), with a pixel more at each
  // end: x[1][1 + j] belongs to g[j].
  const void* x[3];
  // For each channel -1 if floor(d) is below round(d), and 0 if it is the same.
  const int32_t* row_below;
  const int32_t* column_below;
};

// The four sums of Eq. 6 for each channel,
//
//   s[a, b] = sum(g[j] * x[1 + a + row_below][1 + j + b + column_below]).
//
// They are kept vector by vector: at sums[(v * 4 + 2 * a + b) * lanes] begins
// what belongs to the channels from min(v * lanes, channels - lanes) on.
struct SumKernel {
  // There must not be fewer channels than lanes.
  int64_t lanes;
  // Adds one row. `sums` are double if the type is, and float otherwise.
  void (*add_row)(const SumRow& row, void* sums);
  // Moves `count` sums to `totals`, which are double, and leaves zeros. Short
  // sums of floats, added up in double, stay exact where long ones do not.
  void (*flush)(void* sums, double* totals, int64_t count);
};

// ---------------------------------------------------------------------------
// Multiplying pixels by a matrix.

// Matrices lie in panels of so many columns, one panel after the other. The
// first row of a panel is the bias, the others are those of the matrix.
inline constexpr int64_t kPanelColumns = 16;

// Successive channels that are read from the same place.
struct ChannelRun {
  int64_t first;
  int64_t count;
  // Which row they are read from, counted from the pixel's own, and how far the
  // first of them lies from where the pixel itself would be in it, in floats.
  int64_t row;
  int64_t offset;
};

// y = x @ matrix + bias, where channels of x may come from other pixels.
struct PixelProduct {
  // Other channels than these are zero.
  const ChannelRun* runs;
  int64_t num_runs;
  const float* panels;
  int64_t panel_size;
  // Of the matrix. Nothing is written for what the last panel has beyond.
  int64_t columns;
  bool relu;
  // From a pixel to the next, in floats.
  int64_t x_step;
  int64_t y_step;
  int64_t added_step;
};

// A row of pixels. In `x`, rows[r] begins r rows below it.
struct PixelRow {
  const float* const* x;
  float* y;
  const float* added;  // to y, after the ReLU; may be null
};

struct ProductKernel {
  // How many panels are multiplied at once.
  int64_t panels;
  // Multiplies `width` pixels of each row by panels [first_panel, last_panel).
  // Each result is a single sum, from the bias on in the order of the runs, and
  // so has the same bits whatever it is computed along with.
  void (*multiply)(const PixelProduct& product, const PixelRow* rows,
                   int64_t num_rows, int64_t width, int64_t first_panel,
                   int64_t last_panel);
  // Averages 2 x 2 pixels, from two rows of `width` to one of `y_width`. Where
  // there is no second column, or `lower` is `upper`, over those that exist.
  // `channels` is a multiple of a panel's; y may begin where `upper` does.
  void (*pool)(const float* upper, const float* lower, int64_t width,
               int64_t step, int64_t channels, int64_t y_width, float* y);
  // Copies some channels of some pixels.
  void (*copy)(const float* x, int64_t x_step, int64_t pixels, int64_t channels,
               float* y, int64_t y_step);
};

// ---------------------------------------------------------------------------
// What an instruction set brings along.

struct KernelSet {
  // From wide vectors to narrow ones.
  const ShiftKernel* shift;
  int64_t num_shift;
  // By FloatType: half, bfloat16, float, double; each from wide to narrow.
  const SumKernel* sum[4];
  int64_t num_sum;
  const ProductKernel* product;
};

const KernelSet* BaselineKernels();
// Null where the compiler was not told to use these instructions. To be called
// only on machines that have them.
const KernelSet* Avx2Kernels();
const KernelSet* Avx512Kernels();

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_KERNELS_H_
