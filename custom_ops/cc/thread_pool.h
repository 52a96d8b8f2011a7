// Threads that help with a loop. TensorFlow's own threads cannot be reached
// through its C API.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_THREAD_POOL_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_THREAD_POOL_H_

#include <cstdint>
#include <functional>

namespace keras_shift {

// Returns the number of processors that this process may run on, at least 1.
int64_t NumCores();

// Calls `function(index, worker)` once for each index in [0, count), on this
// thread and up to `max_threads - 1` helpers, and returns when all is done. An
// index is taken after all smaller ones, so that it may wait for these.
// `worker`, in [0, max_threads), is different for any two calls that overlap:
// use it to give each thread memory of its own. Helpers compute in the caller's
// floating-point environment.
//
// Helpers are shared by all callers and are made when first asked for. A loop
// never waits for a helper to become free: the caller works, too, and finishes
// alone if nobody comes. So callers may be many, may call from within a helper,
// and may live in the child of a fork, where no helper has survived.
//
// `function` must not throw.
void ParallelFor(int64_t count, int64_t max_threads,
                 const std::function<void(int64_t index, int64_t worker)>&
                     function) noexcept;

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_THREAD_POOL_H_
