#include "custom_ops/cc/arguments.h"

#include <algorithm>
#include <string>

#include "custom_ops/cc/thread_pool.h"

namespace keras_shift {

Status CheckShape(const ImageShape& shape, int64_t element_size) {
  const int64_t sizes[] = {shape.batch, shape.height, shape.width,
                           shape.channels};
  const auto received = [&] {
    std::string text = ". Received: x of shape (";
    for (int i = 0; i < 4; ++i) {
      text += (i > 0 ? ", " : "") + std::to_string(sizes[i]);
    }
    return text + ")";
  };
  int64_t bytes = element_size;
  for (int64_t size : sizes) {
    if (size < 0) {
      return Status::InvalidArgument(
          "Argument `x` must have no negative dimension" + received());
    }
    if (size >= kByteLimit / bytes) {
      return Status::InvalidArgument(
          "Argument `x` must have fewer than 2**57 bytes" + received());
    }
    // One more in each dimension, because the gradient works on images with a
    // border of a pixel.
    bytes *= size + 1;
  }
  return Status();
}

Status CheckArguments(const ImageShape& shape, int64_t element_size,
                      int64_t num_threads) {
  const Status status = CheckShape(shape, element_size);
  return status.ok() ? CheckNumThreads("Argument", num_threads) : status;
}

Status CheckNumThreads(const char* kind, int64_t num_threads) {
  if (num_threads >= 0 && num_threads <= kMaxThreads) return Status();
  return Status::InvalidArgument(
      std::string(kind) +
      " `num_threads` must be 0 (one per core) or a number up to " +
      std::to_string(kMaxThreads) +
      ". Received: num_threads=" + std::to_string(num_threads));
}

int64_t WorthwhileThreads(int64_t bytes, int64_t num_threads) {
  // Waking a thread up takes about as long as moving some ten thousand bytes.
  constexpr int64_t kBytesPerThread = 64 << 10;
  const int64_t worthwhile = bytes / kBytesPerThread;
  if (worthwhile <= 1) return 1;
  return std::min(worthwhile, num_threads == 0 ? NumCores() : num_threads);
}

}  // namespace keras_shift
