// What the functions of shift.h ask of their arguments, and how they divide
// their work.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_ARGUMENTS_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_ARGUMENTS_H_

#include <cstddef>
#include <cstdint>

#include "custom_ops/cc/shift.h"

namespace keras_shift {

// Checks that sizes are not negative, that all of it can be counted in bytes,
// and the number of threads.
Status CheckArguments(const ImageShape& shape, int64_t element_size,
                      int64_t num_threads);

// Of a shape that has been checked.
inline int64_t NumElements(const ImageShape& shape) {
  return shape.batch * shape.height * shape.width * shape.channels;
}

// How many threads moving so many bytes is worth: waking one up takes about as
// long as moving some ten thousand.
int64_t WorthwhileThreads(int64_t bytes, int64_t num_threads);

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_ARGUMENTS_H_
