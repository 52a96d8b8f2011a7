// The main function of a fuzz target where there is no libFuzzer: runs the
// files of the folders that are named, and inputs that are drawn at random.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "custom_ops/fuzz/fuzz.h"

namespace {

constexpr unsigned kSeed = 20190312;
constexpr int kRandomInputs = 300;
constexpr int kMostBytes = 64;

void Run(const std::vector<uint8_t>& bytes) {
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  int files = 0;
  for (int k = 1; k < argc; ++k) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[k])) {
      std::ifstream file(entry.path(), std::ios::binary);
      Run({std::istreambuf_iterator<char>(file), {}});
      ++files;
    }
  }
  std::mt19937 random(kSeed);
  for (int k = 0; k < kRandomInputs; ++k) {
    std::vector<uint8_t> bytes(random() % kMostBytes);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    Run(bytes);
  }
  std::printf("%d files and %d random inputs, seed %u\n", files, kRandomInputs,
              kSeed);
}
