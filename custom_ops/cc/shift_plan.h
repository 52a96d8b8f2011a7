// A shift, prepared for a kernel.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_PLAN_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "custom_ops/cc/kernels.h"

namespace keras_shift {

// Where images are found when they are read or written: in a cache of the core,
// in one that it shares with others, or in memory.
enum class Residence { kOwnCache, kSharedCache, kMemory };

Residence ResidenceOf(int64_t bytes);

// The images between which a plan moves pixels. Those that are written may be
// larger than those that are read.
struct PlanShape {
  int64_t height;
  int64_t width;
  int64_t output_height;
  int64_t output_width;
  int64_t channels;
  int64_t element_size;
  // Where all the images together are found.
  Residence residence;
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

  // Writes rows [first_row, last_row) of the shifted `image`, each of `columns`
  // pixels, to `y`.
  void ShiftRows(const unsigned char* image, int64_t first_row,
                 int64_t last_row, int64_t columns, unsigned char* y) const {
    kernel_.shift_rows(view_, image, first_row, last_row, columns, y);
  }

  // The same where the rows of all images are written to one array. If that is
  // larger than the caches, goes past them.
  void ShiftRowsOfAll(const unsigned char* image, int64_t first_row,
                      int64_t last_row, int64_t columns,
                      unsigned char* y) const {
    const bool stream =
        streams_ && reinterpret_cast<uintptr_t>(y) % kernel_.vector_bytes == 0;
    (stream ? kernel_.stream_rows : kernel_.shift_rows)(view_, image, first_row,
                                                        last_row, columns, y);
  }

 private:
  // Appends a tap that moves these lanes (a bit for each).
  void AddTap(const Tap& tap, uint64_t lanes, int64_t element_size);
  // Adds the vector at `begin`, which moves as a whole by the latest tap, to
  // the latest segment, if it goes on there.
  bool ExtendRun(int64_t begin);

  std::vector<Segment> segments_;
  // Arrays, as a vector would spend more time on growing than all the rest.
  std::unique_ptr<Tap[]> taps_;
  std::unique_ptr<unsigned char[]> masks_;
  int64_t num_taps_ = 0;
  ShiftPlanView view_;
  const ShiftKernel& kernel_;
  bool streams_;
};

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_PLAN_H_
