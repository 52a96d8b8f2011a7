// The main function of a fuzz target where there is no libFuzzer: runs the
// files of the folders that are named, and inputs that are drawn at random.
//
//   shift_fuzz [--inputs=N] [--seed=S] [--keep=FILE] [FOLDER ...]
//
// FILE gets every random input before it is run, so that it holds the one that
// ended the program.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "custom_ops/fuzz/fuzz.h"

namespace {

constexpr int kMostBytes = 64;

void Run(const std::vector<uint8_t>& bytes) {
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

// Whether an argument is the option of this name, whose value it then gets.
bool IsOption(const std::string& argument, const std::string& name,
              std::string* value) {
  const std::string begin = "--" + name + "=";
  if (argument.rfind(begin, 0) != 0) return false;
  *value = argument.substr(begin.size());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  std::string inputs = "300", seed = "20190312", keep;
  int files = 0;
  for (int k = 1; k < argc; ++k) {
    if (IsOption(argv[k], "inputs", &inputs) ||
        IsOption(argv[k], "seed", &seed) || IsOption(argv[k], "keep", &keep)) {
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argv[k])) {
      std::ifstream file(entry.path(), std::ios::binary);
      Run({std::istreambuf_iterator<char>(file), {}});
      ++files;
    }
  }
  std::mt19937 random(std::stoul(seed));
  const int count = std::stoi(inputs);
  for (int k = 0; k < count; ++k) {
    std::vector<uint8_t> bytes(random() % kMostBytes);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    if (!keep.empty()) {
      std::ofstream(keep, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
    }
    Run(bytes);
  }
  std::printf("%d files and %d random inputs, seed %s\n", files, count,
              seed.c_str());
}
