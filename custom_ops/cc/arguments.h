// The checks that all functions of the core make of their arguments, and how
// many threads a call is worth.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_ARGUMENTS_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_ARGUMENTS_H_

#include <cstdint>

#include "custom_ops/cc/status.h"
#include "custom_ops/cc/types.h"

namespace keras_shift {

// Arrays must have fewer bytes than this, 2**57, so that sums and products of
// a few sizes can be represented.
inline constexpr int64_t kByteLimit = int64_t{1} << 57;

// Checks that no size is negative, and that the bytes of all images can be
// counted.
Status CheckShape(const ImageShape& shape, int64_t element_size);

// Checks the shape and the number of threads.
Status CheckArguments(const ImageShape& shape, int64_t element_size,
                      int64_t num_threads);

// `kind` says in the message what `num_threads` is: an argument or an
// attribute.
Status CheckNumThreads(const char* kind, int64_t num_threads);

// The number of threads that should move so many bytes. `num_threads` bounds
// it, and 0 stands for one per core.
int64_t WorthwhileThreads(int64_t bytes, int64_t num_threads);

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_ARGUMENTS_H_
