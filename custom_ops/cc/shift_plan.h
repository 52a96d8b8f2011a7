// A shift, planned for the vectors of a kernel.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_PLAN_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "custom_ops/cc/kernels.h"

namespace keras_shift {

// Where images are found when they are read or written: in a cache of the core,
// in a cache that it shares with others, or in memory.
enum class Residence { kOwnCache, kSharedCache, kMemory };

Residence ResidenceOf(int64_t bytes);

// The most channels in a vector of any kernel.
inline constexpr int64_t kMostLanes = 64;

// The images between which a plan moves pixels. Those that are written may be
// larger than those that are read.
struct PlanShape {
  int64_t height;
  int64_t width;
  int64_t output_height;
  int64_t output_width;
  int64_t channels;
  int64_t element_size;
  // The channels are moved slice by slice, of so many each; it is a multiple of
  // kMostLanes. The last slice may have up to kMostLanes more.
  int64_t slice_channels;
  // Where all the images together are found.
  Residence residence;

  bool operator==(const PlanShape&) const = default;
};

// Cuts a pixel into the vectors of `kernel` and finds, for each of them, which
// displacements occur and which channels move by them. Neighbouring vectors
// that move as a whole, and together, become one segment; so channels that are
// sorted by displacement cost little more than a copy.
class ShiftPlan {
 public:
  // `rows` and `columns` are the displacements of the channels. Channels that
  // see nothing of the image become zero here, so that displacements may be of
  // any size. May throw std::bad_alloc.
  ShiftPlan(const PlanShape& shape, const int32_t* rows, const int32_t* columns,
            const ShiftKernel& kernel);

  ShiftPlan(const ShiftPlan&) = delete;
  ShiftPlan& operator=(const ShiftPlan&) = delete;

  // Where slices lie, in bytes. That is the same for all plans with the same
  // number of channels and the same slice_channels.
  int64_t num_slices() const { return views_.size(); }
  int64_t slice_begin(int64_t slice) const { return views_[slice].slice_begin; }
  int64_t slice_bytes(int64_t slice) const { return views_[slice].slice_bytes; }

  // Writes a slice's channels of rows [first_row, last_row) of the shifted
  // `image`, each of `columns` pixels, to `y`, where they lie `y_pixel_bytes`
  // apart. `filter` may be null.
  void ShiftRows(int64_t slice, const unsigned char* image, int64_t first_row,
                 int64_t last_row, int64_t columns, const Filter* filter,
                 unsigned char* y, int64_t y_pixel_bytes) const {
    kernel_.shift_rows(views_[slice], image, first_row, last_row, columns,
                       filter, y, y_pixel_bytes);
  }

  // Does the same where the rows of all images are written to one array, in
  // which row first_row begins at `y`. The gates, if any, lie in another array,
  // in which the row begins at `filter->gates`. If the images are larger than
  // the caches, the stores go past these.
  void ShiftRowsOfAll(int64_t slice, const unsigned char* image,
                      int64_t first_row, int64_t last_row, int64_t columns,
                      const Filter* filter, unsigned char* y) const {
    const ShiftPlanView& view = views_[slice];
    const bool stream =
        streams_ && reinterpret_cast<uintptr_t>(y) % kernel_.vector_bytes == 0;
    Filter of_slice = filter == nullptr ? Filter() : *filter;
    if (of_slice.gates != nullptr) of_slice.gates += view.slice_begin;
    (stream ? kernel_.stream_rows : kernel_.shift_rows)(
        view, image, first_row, last_row, columns,
        filter == nullptr ? nullptr : &of_slice, y + view.slice_begin,
        view.pixel_bytes);
  }

 private:
  // Appends a tap that moves these lanes (a bit for each).
  void AddTap(const Tap& tap, uint64_t lanes, int64_t element_size);
  // How far the taps of a slice lead.
  struct Reach {
    int64_t lowest_row = 0;
    int64_t highest_row = 0;
    int64_t lowest_column = 0;
    int64_t highest_column = 0;

    void Include(int64_t row, int64_t column);
  };

  // Appends the segments of a slice, and its view.
  void AddSlice(const PlanShape& shape, const int32_t* rows,
                const int32_t* columns, int64_t first_channel,
                int64_t num_channels);
  // Appends the taps of the vector at `begin` of a slice, whose channels have
  // these displacements, and a segment for it if it needs one.
  void AddVector(const PlanShape& shape, const int32_t* rows,
                 const int32_t* columns, int64_t begin, size_t first_segment,
                 Reach* reach);
  // Adds the vector at `begin`, which moves as a whole by the latest tap, to
  // the latest segment, if that is one of the slice and goes on there.
  bool ExtendRun(int64_t begin, size_t first_segment);

  std::vector<Segment> segments_;
  // These are no vectors, whose growth would take more time than all the rest.
  std::unique_ptr<Tap[]> taps_;
  std::unique_ptr<unsigned char[]> masks_;
  int64_t num_taps_ = 0;
  // There is one for each slice.
  std::vector<ShiftPlanView> views_;
  const ShiftKernel& kernel_;
  bool streams_;
};

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_PLAN_H_
