// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target on the files of its corpus, without a fuzzer: the program ends well, or it
// crashes on the file that it named last.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <sys/resource.h>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

// Far above what an input of a few kilobytes may take: a length that nothing checked fails here.
[[maybe_unused]] constexpr rlim_t kMemoryMax = rlim_t{1} << 30;

void BoundMemory() {
#ifndef __SANITIZE_ADDRESS__
#ifndef __SANITIZE_THREAD__
  const rlimit limit{kMemoryMax, kMemoryMax};
  setrlimit(RLIMIT_DATA, &limit);
#endif
#endif
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  BoundMemory();
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const std::filesystem::path& file : files) {
    std::fprintf(stderr, "%s\n", file.c_str());
    const std::string bytes = ReadFile(file);
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
  std::fprintf(stderr, "%zu inputs\n", files.size());
  return files.empty() ? 1 : 0;
}
