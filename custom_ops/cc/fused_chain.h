// Units of a shift network at inference, each on the output of the one before
// (see fused_unit.h). Nothing here depends on TensorFlow.
//
// Maps between units lie in memory that threads keep from call to call. A unit
// that leaves some channels as they are writes the others in their place, as
// far as its way of computing admits it, so that nothing is copied.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_CHAIN_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_CHAIN_H_

#include <cstdint>
#include <span>

#include "custom_ops/cc/status.h"
#include "custom_ops/cc/types.h"

namespace keras_shift {

// What a chain takes and returns.
struct FusedChainShapes {
  ImageShape y;
  // The bytes of all matrices, and the number of displacements.
  int64_t weight_bytes;
  int64_t displacements;
};

// Checks the shape of `x` and the units, and computes the other shapes.
Status FusedChainShape(const ImageShape& shape,
                       std::span<const FusedUnit> units,
                       FusedChainShapes* shapes) noexcept;

// Returns to the bit what FusedUnit2D() would, called for one unit after the
// other. `weights` are the matrices `expand` and `project` of each unit in
// turn, one behind the other, and `displacements` are those of all units. `x`
// and `y` must not overlap.
Status FusedChain2D(const ImageShape& shape, std::span<const FusedUnit> units,
                    const float* x, const void* weights,
                    const int32_t* displacements, int64_t num_threads,
                    float* y) noexcept;

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_CHAIN_H_
