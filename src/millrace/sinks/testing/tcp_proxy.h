// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

namespace millrace::sinks::testing {

// A TCP proxy on a free port of 127.0.0.1 that breaks connections at chosen bytes. It serves one
// connection at a time; made for tests of what a lost reply means.
class TcpProxy {
 public:
  enum class Mode {
    kForward,
    kCutBefore,  // at the trigger: closes both sides without passing it on
    kCutAfter,   // passes it on, waits for `answer` in what comes back, and closes without passing
                 // that
    kHold,       // keeps the trigger and what follows until Release(), and passes nothing back
  };

  TcpProxy(std::string upstream_host, uint16_t upstream_port);
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;

  uint16_t port() const { return port_; }

  // Breaks the next time that the client sends `trigger`, once. Before connections are made, or
  // while none sends.
  void Arm(Mode mode, std::string trigger, std::string answer);
  // kHold: passes on what was kept, waits for `answer`, and closes.
  void Release();
  // kHold: waits until the trigger has come.
  void WaitUntilHeld();
  // Waits until what Arm() asked for has been done.
  void WaitUntilDone();

 private:
  void Run();
  void Serve(int client, int upstream);
  bool PassToServer(int client, int upstream);
  void AwaitAnswer(int upstream);

  const std::string host_;
  const uint16_t upstream_port_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::string trigger_;
  std::string answer_;
  std::atomic<Mode> mode_ = Mode::kForward;
  std::atomic<bool> released_ = false;
  std::atomic<bool> held_ = false;
  std::atomic<bool> done_ = false;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace millrace::sinks::testing
