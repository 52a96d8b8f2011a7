// The kernels, which are compiled once per instruction set.
//
// This header is all that their objects share with the rest of the core. It
// holds plain structs only, on purpose: an inline function that is instantiated
// in two objects is kept once by the linker, and the copy that it keeps for
// everybody may be the one that was compiled for AVX-512.

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

// A part of a pixel: either a run of vectors that move as a whole, by one tap,
// or a single vector whose channels move by several taps, or by none because
// they all see nothing of the image.
struct Segment {
  // Where the segment begins in the slice, in bytes.
  int64_t begin;
  // The number of vectors in a run, or 0 for a single vector, whose taps have
  // masks.
  int64_t whole_vectors;
  int64_t first_tap;
  int64_t num_taps;
};

// A shift, prepared by ShiftPlan for the vectors of one kernel.
//
// Everything is counted in bytes, so that a kernel need not know the type.
struct ShiftPlanView {
  // The size of the image that is read, and of its pixels.
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
  // Whether to prefetch the rows that are needed next.
  bool prefetch;
  // All the segments together cover the slice; they may overlap.
  const Segment* segments;
  int64_t num_segments;
  const Tap* taps;
  // For each tap, a mask of the bytes that it moves, in the form that
  // ShiftKernel::mask_bytes tells.
  const unsigned char* masks;
};

// Says which elements keep their value when they are written; the others become
// zero. An element keeps it if the bits of its gate, as an unsigned number with
// the sign bit flipped, are greater than `above` and not greater than `up_to`.
// In the order of these numbers, floats are
//
//   -0 to -infinity, NaNs with a sign, +0, the positive numbers up to
//   +infinity, NaNs without a sign.
struct Filter {
  // This is 2, 4 or 8 bytes.
  int64_t element_size;
  uint64_t above;
  uint64_t up_to;
  // The gates, which lie in an array like the one that is written, from the
  // place that belongs to `y` on. Null if each element is its own gate.
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
  // The size of a vector. Pixels must not be smaller.
  int64_t vector_bytes;
  // The size of a mask. It is either vector_bytes, and each byte of the mask (0
  // or 255) stands for a byte of the vector, or it is 8, and the mask is a
  // uint64_t with a bit for each byte.
  int64_t mask_bytes;
  ShiftRowsFunction shift_rows;
  // Does the same with stores that go past the caches; null where the machine
  // has none. `y`, y_pixel_bytes and the size of the slice must be multiples of
  // a vector.
  ShiftRowsFunction stream_rows;
};

// ---------------------------------------------------------------------------
// Summing products.

// One row of the upstream gradient, and what of x the sums of Eq. 6 multiply it
// by.
struct SumRow {
  int64_t columns;
  int64_t channels;
  // The row of the upstream gradient, whose pixels are `g_stride` elements
  // apart.
  const void* g;
  int64_t g_stride;
  // Rows of the upstream gradient and of x, laid out like `g`, to prefetch.
  // Both or neither may be null.
  const void* next_g;
  const void* next_x;
  // Three successive rows of x, shifted by round(d), which have one pixel more
  // at each end than `g`: x[1][1 + j] belongs to g[j].
  const void* x[3];
  // For each channel -1 if floor(d) is below round(d), and 0 if it is the same.
  const int32_t* row_below;
  const int32_t* column_below;
};

// The four sums of Eq. 6 for each channel,
//
//   s[a, b] = sum(g[j] * x[1 + a + row_below][1 + j + b + column_below]).
//
// They are kept vector by vector: the sums s[a, b] of the channels from
// min(v * lanes, channels - lanes) on begin at sums[(v * 4 + 2 * a + b) *
// lanes].
struct SumKernel {
  // The number of channels in a vector. There must not be fewer channels.
  int64_t lanes;
  // Adds one row. `sums` are double if the type is, and float otherwise.
  void (*add_row)(const SumRow& row, void* sums);
  // Adds `count` sums to `totals`, which are double, and sets them to zero.
  // This keeps sums of floats short, since long ones lose digits.
  void (*flush)(void* sums, double* totals, int64_t count);
};

// ---------------------------------------------------------------------------
// Multiplying pixels by a matrix: an indirect GEMM (general matrix
// multiplication), which reads x through pointers to its rows.

// x and matrices consist of words of 4 bytes. A word of x is a channel in
// float32, or a pair of channels in bfloat16, the even one in its lower half.
inline constexpr int64_t kWordBytes = 4;

// Matrices are stored in panels of so many columns, one panel after the other.
// The first row of a panel is the bias, the others are those of the matrix, in
// bfloat16 two of them in a row of words. There, a bias is the sum of the two
// numbers of its word, as a single one would have too few digits.
inline constexpr int64_t kPanelColumns = 16;

// Successive words of x that are read from the same pixel.
struct ChannelRun {
  int64_t first;
  int64_t count;
  // The row that they are read from, counted from the pixel's own row.
  int64_t row;
  // How far the first of them lies, in that row, from where the pixel itself
  // would begin, in words.
  int64_t offset;
  // The bits of each word that are multiplied: all of them, or the channel of a
  // pair whose other channel is read from elsewhere, or does not exist.
  uint32_t mask;
};

// The matrix and the strides of y = x @ matrix + bias.
struct GemmParams {
  // The channels of x in no run are zero.
  const ChannelRun* runs;
  int64_t num_runs;
  const void* panels;
  // In words.
  int64_t panel_size;
  // The number of columns of the matrix. The columns that the last panel has
  // beyond it are not written.
  int64_t columns;
  bool relu;
  // Whether y is the wide tensor, which is of the type of the matrix. There,
  // all columns of the last panel are written, after a ReLU and without a
  // residual. Any other y is float32.
  bool y_is_wide;
  // From a pixel to the next one, in words.
  int64_t x_step;
  int64_t y_step;
  int64_t residual_step;
};

// Where a row of pixels is read from and written to.
struct GemmRow {
  // A part of an indirection buffer: x_rows[r] is the row of x that lies r rows
  // below the pixels' own.
  const void* const* x_rows;
  void* y;
  // What is added to y, after the ReLU; may be null.
  const float* residual;
};

// The most channels that a kernel rounds at once.
inline constexpr int64_t kRoundedTogether = 16;

struct GemmKernel {
  // The number of panels that a tile spans.
  int64_t panels_per_tile;
  // Multiplies `width` pixels of each row by panels [first_panel, last_panel).
  // Each result is a single sum, which starts with the bias and takes the
  // channels in the order of the runs. So its bits do not depend on the other
  // pixels and panels of the call.
  void (*multiply)(const GemmParams& params, const GemmRow* rows,
                   int64_t num_rows, int64_t width, int64_t first_panel,
                   int64_t last_panel);
  // Averages 2 x 2 pixels, from two rows of `width` pixels to one of `y_width`.
  // Where there is no second column, or `lower` is `upper`, it averages the
  // pixels that exist. `step` is in words, `channels` is a multiple of
  // kPanelColumns. `y` may begin where `upper` does.
  void (*pool)(const void* upper, const void* lower, int64_t width,
               int64_t step, int64_t channels, int64_t y_width, void* y);
  // Adds the first `channels` channels of each pixel to `sums`, pixel by pixel.
  // `step` is in words, `channels` is a multiple of kPanelColumns.
  void (*add_pixels)(const void* x, int64_t step, int64_t pixels,
                     int64_t channels, float* sums);
  // Rounds the first `channels` channels of each pixel to bfloat16. `x_step` is
  // in floats, `y_step` in words. What follows a pixel in y changes, too, by as
  // much as kRoundedTogether channels. Null where matrices are float32.
  void (*round)(const float* x, int64_t x_step, int64_t pixels,
                int64_t channels, void* y, int64_t y_step);
  // Copies the first `channels` channels of each pixel, which are float32.
  void (*copy)(const float* x, int64_t x_step, int64_t pixels, int64_t channels,
               float* y, int64_t y_step);
};

// ---------------------------------------------------------------------------
// The kernels of an instruction set.

// Where a set lacks a kind of kernels, those of a lesser instruction set serve.
struct KernelSet {
  // In the order of their vectors, the widest first.
  const ShiftKernel* shift;
  int64_t num_shift;
  // For each FloatType in its order: half, bfloat16, float, double; each with
  // the widest vectors first.
  const SumKernel* sum[4];
  int64_t num_sum;
  // For matrices in float32 and in bfloat16.
  const GemmKernel* gemm;
  const GemmKernel* gemm_bfloat16;
};

const KernelSet* BaselineKernels();
// These return null where the compiler was not told to use the instructions.
// They may be called only on machines that have them.
const KernelSet* Avx2Kernels();
const KernelSet* Avx512Kernels();
const KernelSet* Avx512Bf16Kernels();

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_KERNELS_H_
