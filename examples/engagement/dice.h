// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

// What the generator sends: random choices, and arrays of them as PostgreSQL's text.

// One-dimensional array literal in PostgreSQL's text form.
class ArrayText {
 public:
  void Add(std::string_view plain) {
    Separate();
    text_ += plain;
  }
  void Add(std::int64_t number) { Add(fmt::format_int(number).c_str()); }
  void AddNull() { Add("NULL"); }
  // For elements with quotes, braces or commas.
  void AddQuoted(std::string_view element) {
    Separate();
    text_ += '"';
    for (const char c : element) {
      if (c == '"' || c == '\\') text_ += '\\';
      text_ += c;
    }
    text_ += '"';
  }
  std::string Finish() && {
    text_ += '}';
    return std::move(text_);
  }

 private:
  void Separate() {
    if (text_.size() > 1) text_ += ',';
  }
  std::string text_ = "{";
};

inline constexpr int kUsers = 100'000;

// The random choices; everything that the seed decides.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}

  // In [0, bound).
  std::size_t Below(std::size_t bound) {
    return static_cast<std::size_t>(engine_() % static_cast<std::uint64_t>(bound));
  }
  bool Percent(std::size_t share) { return Below(100) < share; }

  template <std::size_t kSize>
  const char* Pick(const std::array<const char*, kSize>& choices) {
    return choices[Below(kSize)];
  }

  std::string Uuid() { return FormatUuid(engine_(), engine_()); }
  // One of kUsers, the same ones for every seed.
  std::string UserUuid() {
    return FormatUuid(0x7573'6572'0000'0000U, 0x1000'0000'0000'0000U + Below(kUsers));
  }

 private:
  static std::string FormatUuid(std::uint64_t high, std::uint64_t low) {
    return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", high >> 32U, (high >> 16U) & 0xFFFFU,
                       high & 0xFFFU, 0x8000U | ((low >> 48U) & 0x3FFFU), low & 0xFFFF'FFFF'FFFFU);
  }

  std::mt19937_64 engine_;
};
