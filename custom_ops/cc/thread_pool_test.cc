// Loops that are run by several callers at once, from within other loops, and
// in the child of a fork.

#include "custom_ops/cc/thread_pool.h"

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "custom_ops/cc/testing.h"

namespace keras_shift {
namespace {

// Whether each index was visited once, by workers that did not overlap.
bool VisitsEachOnce(int64_t count, int64_t max_threads) {
  std::vector<std::atomic<int>> visits(count);
  std::vector<std::atomic<int>> busy(max_threads);
  std::atomic<bool> ok{true};
  ParallelFor(count, max_threads, [&](int64_t index, int64_t worker) {
    if (worker < 0 || worker >= max_threads) {
      ok = false;
      return;
    }
    if (++busy[worker] != 1) ok = false;
    ++visits[index];
    --busy[worker];
  });
  for (const auto& visit : visits) {
    if (visit != 1) ok = false;
  }
  return ok;
}

void TestCounts() {
  for (int64_t count : {0, 1, 2, 3, 100, 1000}) {
    for (int64_t threads : {1, 2, 3, 8}) {
      Check(VisitsEachOnce(count, threads),
            std::to_string(count) + " indices, " + std::to_string(threads) +
                " threads");
    }
  }
}

void TestNoThreadsAreNeeded() {
  const std::thread::id caller = std::this_thread::get_id();
  bool ok = true;
  ParallelFor(100, 1, [&](int64_t, int64_t worker) {
    ok = ok && worker == 0 && std::this_thread::get_id() == caller;
  });
  Check(ok, "one thread is the caller");
}

// What is written without atomics is seen by the caller afterwards.
void TestResultsAreVisible() {
  bool ok = true;
  for (int round = 0; round < 200; ++round) {
    std::vector<int64_t> squares(64);
    ParallelFor(
        64, 4, [&](int64_t index, int64_t) { squares[index] = index * index; });
    ok = ok && std::accumulate(squares.begin(), squares.end(), int64_t{0}) ==
                   63 * 64 * 127 / 6;
  }
  Check(ok, "results are visible");
}

void TestSeveralCallers() {
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; ++caller) {
    callers.emplace_back([&, caller] {
      for (int round = 0; round < 100; ++round) {
        if (!VisitsEachOnce(20 + caller, 3)) ++wrong;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  Check(wrong == 0, "several callers at once");
}

void TestNestedLoops() {
  std::atomic<int> visits{0};
  ParallelFor(8, 4, [&](int64_t, int64_t) {
    ParallelFor(8, 4, [&](int64_t, int64_t) { ++visits; });
  });
  Check(visits == 64, "nested loops");
}

// In a child, none of the parent's helpers exist, and some were perhaps at
// work. A hang is ended by the alarm.
void TestFork() {
#if defined(__SANITIZE_THREAD__)
  // This sanitizer allows no new threads in a child.
  return;
#endif
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) VisitsEachOnce(50, 4);
  });
  bool ok = true;
  for (int round = 0; round < 10; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      _exit(VisitsEachOnce(200, 4) && VisitsEachOnce(200, 4) ? 0 : 1);
    }
    int status = -1;
    ok = ok && child > 0 && waitpid(child, &status, 0) == child &&
         WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  stop = true;
  busy.join();
  Check(ok, "loops in the child of a fork");
  Check(VisitsEachOnce(200, 4), "the parent goes on");
}

int Main() {
  Check(NumCores() >= 1, "there is a core");
  TestNoThreadsAreNeeded();
  // A fork must also work before any helper is known to exist.
  TestFork();
  TestCounts();
  TestResultsAreVisible();
  TestSeveralCallers();
  TestNestedLoops();
  TestFork();
  return Report();
}

}  // namespace
}  // namespace keras_shift

int main() { return keras_shift::Main(); }
