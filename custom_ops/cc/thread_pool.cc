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
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

namespace keras_shift {
namespace {

using Function = std::function<void(int64_t, int64_t)>;

// To wake up a thread that sleeps takes tens of microseconds, more than many
// loops do. So a thread looks for so long whether what it waits for is there,
// before it sleeps. Meanwhile, any thread that has work gets its core.
constexpr std::chrono::microseconds kSpinTime(50);

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns when `condition` holds, or after kSpinTime.
template <typename Condition>
void SpinUntil(Condition condition) {
  if (condition()) return;
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    constexpr int kTries = 16;
    for (int i = 0; i < kTries; ++i) {
      Pause();
      if (condition()) return;
    }
    std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < end);
}

// Locks the pool's mutex, which is held for an instant only, so that it rarely
// pays to sleep until it is free.
std::unique_lock<std::mutex> Lock(std::mutex& mutex) {
  constexpr int kTries = 200;
  for (int i = 0; i < kTries; ++i) {
    std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
    if (lock.owns_lock()) return lock;
    Pause();
  }
  return std::unique_lock<std::mutex>(mutex);
}

// A call of ParallelFor. It lives on the caller's stack: nobody may touch it
// once it has left the queue, its `helping` is back to zero, and the mutex is
// free.
struct Loop {
  Loop(const Function& function, int64_t count, int64_t wanted)
      : function(function), count(count), wanted(wanted) {}

  const Function& function;
  const int64_t count;
  std::atomic<int64_t> next_index{0};
  // Helpers take over the caller's environment. TensorFlow's threads, for
  // example, take subnormal numbers for zero.
  std::fenv_t environment;

  // Those who hold the pool's mutex write this.
  std::atomic<int64_t> helping{0};

  // The pool's mutex guards what follows. This number of helpers may still
  // join.
  int64_t wanted;
  // Worker 0 is the caller.
  int64_t next_worker = 1;
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
    bool spins = false;
    {
      const std::unique_lock<std::mutex> lock = Lock(mutex_);
      try {
        loops_.push_back(&loop);
        has_loops_.store(true, std::memory_order_relaxed);
      } catch (const std::bad_alloc&) {
        // Nobody will find it.
        loop.wanted = 0;
      }
      AddThreads(loop.wanted);
      spins = ThereAreCoresToSpin();
    }
    if (wants_one) {
      wake_up_.notify_one();
    } else {
      wake_up_.notify_all();
    }
    loop.Work(0);
    std::unique_lock<std::mutex> lock = Lock(mutex_);
    Remove(loop);
    if (spins && loop.helping != 0) {
      lock.unlock();
      SpinUntil([&] { return loop.helping == 0; });
      lock = Lock(mutex_);
    }
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
    has_loops_.store(!loops_.empty(), std::memory_order_relaxed);
  }

  // Requires the mutex. With more threads than cores, one that spins would keep
  // another from its work.
  bool ThereAreCoresToSpin() const { return num_threads_ < num_cores_; }

  // What a helper does all its life. It is never told to stop: threads that
  // wait do not keep a process from ending, and joining them while libraries
  // are being unloaded is a well-known way to hang.
  void Help() {
    std::unique_lock<std::mutex> lock = Lock(mutex_);
    for (;;) {
      if (loops_.empty() && ThereAreCoresToSpin()) {
        lock.unlock();
        SpinUntil([&] { return has_loops_.load(std::memory_order_relaxed); });
        lock = Lock(mutex_);
      }
      wake_up_.wait(lock, [&] { return !loops_.empty(); });
      Loop& loop = *loops_.front();
      const int64_t worker = loop.next_worker++;
      ++loop.helping;
      if (--loop.wanted == 0) Remove(loop);
      lock.unlock();
      std::fenv_t own;
      std::fegetenv(&own);
      std::fesetenv(&loop.environment);
      loop.Work(worker);
      std::fesetenv(&own);
      lock = Lock(mutex_);
      // Nothing is left to do in it, so that others need not look.
      Remove(loop);
      if (--loop.helping == 0) loop.helpers_left.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_up_;
  std::deque<Loop*> loops_;
  // Whether there are any, for those who look without the mutex.
  std::atomic<bool> has_loops_{false};
  int64_t num_threads_ = 0;
  const int64_t num_cores_ = NumCores();
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
    // Its queue takes memory, too.
    made = new ThreadPool;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  if (!pool.compare_exchange_strong(current, made)) {
    // Somebody was faster, and this pool has no threads yet.
    delete made;
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
