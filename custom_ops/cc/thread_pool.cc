#include "custom_ops/cc/thread_pool.h"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

namespace keras_shift {
namespace {

using Function = std::function<void(int64_t, int64_t)>;

// A call of ParallelFor. It lives on the caller's stack: nobody may touch it
// once it has left the queue and its `helping` is back to zero.
struct Loop {
  Loop(const Function& function, int64_t count, int64_t wanted)
      : function(function), count(count), wanted(wanted) {}

  const Function& function;
  const int64_t count;
  std::atomic<int64_t> next_index{0};
  // The caller's, which helpers take over. TensorFlow's threads, for example,
  // take subnormal numbers for zero.
  std::fenv_t environment;

  // Guarded by the pool's mutex.
  int64_t wanted;  // helpers that may still join
  int64_t helping = 0;
  int64_t next_worker = 1;  // 0 is the caller
  std::condition_variable helpers_left;

  void Work(int64_t worker) {
    for (;;) {
      const int64_t index = next_index.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) return;
      function(index, worker);
    }
  }
};

class ThreadPool {
 public:
  void Run(Loop& loop) {
    std::fegetenv(&loop.environment);
    const bool wants_one = loop.wanted == 1;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      try {
        loops_.push_back(&loop);
      } catch (const std::bad_alloc&) {
        loop.wanted = 0;  // nobody will find it
      }
      AddThreads(loop.wanted);
    }
    if (wants_one) {
      wake_up_.notify_one();
    } else {
      wake_up_.notify_all();
    }
    loop.Work(0);
    std::unique_lock<std::mutex> lock(mutex_);
    Remove(loop);
    loop.helpers_left.wait(lock, [&] { return loop.helping == 0; });
  }

 private:
  // Requires the mutex. As many as there have ever been wanted at once; fewer
  // where the system refuses.
  void AddThreads(int64_t wanted) {
    try {
      for (; num_threads_ < wanted; ++num_threads_) {
        std::thread([this] { Help(); }).detach();
      }
    } catch (const std::exception&) {
    }
  }

  // Requires the mutex.
  void Remove(const Loop& loop) {
    loops_.erase(std::remove(loops_.begin(), loops_.end(), &loop),
                 loops_.end());
  }

  // What a helper does all its life. It is never told to stop: threads that
  // wait do not keep a process from ending, and joining them while libraries
  // are being unloaded is a well-known way to hang.
  void Help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_up_.wait(lock, [&] { return !loops_.empty(); });
      Loop& loop = *loops_.front();
      const int64_t worker = loop.next_worker++;
      ++loop.helping;
      if (--loop.wanted == 0) loops_.pop_front();
      lock.unlock();
      std::fenv_t own;
      std::fegetenv(&own);
      std::fesetenv(&loop.environment);
      loop.Work(worker);
      std::fesetenv(&own);
      lock.lock();
      // Nothing is left to do in it, so that others need not look.
      Remove(loop);
      if (--loop.helping == 0) loop.helpers_left.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_up_;
  std::deque<Loop*> loops_;
  int64_t num_threads_ = 0;
};

// Never deleted, as its threads never end.
std::atomic<ThreadPool*> pool{nullptr};

// Null if there is no memory for one.
ThreadPool* Pool() {
  ThreadPool* current = pool.load(std::memory_order_acquire);
  if (current != nullptr) return current;
#if defined(__unix__) || defined(__APPLE__)
  // A fork copies the pool, but none of its threads, and its mutex as it
  // happens to be. The child forgets it and makes another.
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); });
  (void)registered;
#endif
  ThreadPool* made = nullptr;
  try {
    made = new ThreadPool;  // its queue takes memory, too
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  if (!pool.compare_exchange_strong(current, made)) {
    delete made;  // somebody was faster; it has no threads yet
    return current;
  }
  return made;
}

}  // namespace

int64_t NumCores() {
#if defined(__linux__)
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) {
    return std::max(1, CPU_COUNT(&cores));
  }
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

void ParallelFor(int64_t count, int64_t max_threads,
                 const Function& function) noexcept {
  Loop loop(function, count, std::min(count, max_threads) - 1);
  ThreadPool* pool = loop.wanted > 0 ? Pool() : nullptr;
  if (pool == nullptr) {
    loop.Work(0);
  } else {
    pool->Run(loop);
  }
}

}  // namespace keras_shift
