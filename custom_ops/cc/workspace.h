// Memory to work in.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_WORKSPACE_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_WORKSPACE_H_

#include <cstdint>
#include <cstdlib>

#include "custom_ops/cc/types.h"

namespace keras_shift {

// Memory that begins with a cache line, and is not initialised. A thread may
// keep one from call to call, since the system takes long to hand out new
// memory.
class Workspace {
 public:
  // The most that ReleaseIfLarge() leaves.
  static constexpr int64_t kKeptBytes = 4 << 20;

  Workspace() = default;
  ~Workspace() { std::free(memory_); }

  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // Returns data(), or null if there is not so much memory. What the memory
  // held before may be lost.
  unsigned char* Reserve(int64_t bytes) {
    if (bytes > size_) {
      Release();
      memory_ = std::aligned_alloc(kAlignment,
                                   CeilDiv(bytes, kAlignment) * kAlignment);
      if (memory_ != nullptr) size_ = bytes;
    }
    return data();
  }

  unsigned char* data() const { return static_cast<unsigned char*>(memory_); }

  // Large networks would otherwise leave much memory with every thread.
  void ReleaseIfLarge() {
    if (size_ > kKeptBytes) Release();
  }

 private:
  static constexpr int64_t kAlignment = 64;

  void Release() {
    std::free(memory_);
    memory_ = nullptr;
    size_ = 0;
  }

  void* memory_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_WORKSPACE_H_
