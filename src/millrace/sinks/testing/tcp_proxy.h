// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <string>
#include <thread>

namespace millrace::sinks::testing {

// A TCP proxy on a free port of 127.0.0.1, between a sink and its server, that a test can stall or
// cut: by its mode, or once at chosen bytes. One thread moves all bytes.
class TcpProxy {
 public:
  enum class Mode {
    kPass,
    kStall,        // nothing moves, nothing is closed
    kRefuse,       // connections are closed at once
    kCutRequests,  // half of the first piece of a request goes through, then the connection is
                   // closed
  };
  // What happens where the client sends a trigger.
  enum class Break {
    kCutBefore,  // closes both sides without passing it on
    kCutAfter,   // passes it on, waits for `answer` in what comes back, and closes without passing
                 // that
    kHold,       // keeps the trigger and what follows until Release(), then as kCutAfter
  };

  TcpProxy(std::string server_host, std::string server_port);
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;

  uint16_t port() const { return port_; }

  // Holds for every byte that moves after the call.
  void SetMode(Mode mode);
  // Closes every connection that is open.
  void Cut() { cut_ = true; }
  // The next `n` requests go through, and at the first byte of the reply the connection is closed.
  void DropReplies(int n) { replies_to_drop_ = n; }
  // Closes the connection once `n` more bytes of requests have gone through, once. See
  // request_bytes() for how many there are.
  void CutAfterRequestBytes(int64_t n) { request_bytes_left_ = n; }
  // How many bytes of requests have gone through.
  int64_t request_bytes() const { return request_bytes_; }
  // Blocks until bytes of a client wait behind kStall.
  void WaitForStalledBytes() const { has_stalled_bytes_.wait(false); }

  // Breaks the next time that a client sends `trigger`, once. While none sends.
  void Arm(Break kind, std::string trigger, std::string answer);
  // kHold: waits until the trigger has come; passes on what was kept.
  void WaitUntilHeld() const { held_.wait(false); }
  void Release();
  // Waits until what Arm() asked for has been done.
  void WaitUntilDone() const { done_.wait(false); }

 private:
  struct Link {
    int client = -1;
    int server = -1;
    bool closed = false;
  };

  void Run(const std::stop_token& stop);
  void NoticeStalledBytes();
  void Accept(Mode mode);
  int Connect() const;
  void PassRequest(Link& link, Mode mode);
  void PassReply(Link& link);
  // The trigger stands at `at` in what the client sent.
  void BreakAt(const Link& link, const std::string& bytes, size_t at);
  void AwaitAnswer(int server) const;

  // Constant after construction.
  const std::string server_host_;
  const std::string server_port_;
  int listener_ = -1;
  uint16_t port_ = 0;

  std::atomic<Mode> mode_ = Mode::kPass;
  std::atomic<uint64_t> generation_ = 0;
  std::atomic<uint64_t> seen_ = 0;
  std::atomic<bool> cut_ = false;
  std::atomic<int> replies_to_drop_ = 0;
  std::atomic<int64_t> request_bytes_left_ = -1;  // negative: no end
  std::atomic<int64_t> request_bytes_ = 0;
  std::atomic<bool> has_stalled_bytes_ = false;

  // Written by Arm() before it sets armed_.
  Break break_ = Break::kCutBefore;
  std::string trigger_;
  std::string answer_;
  std::atomic<bool> armed_ = false;
  std::atomic<bool> held_ = false;
  std::atomic<bool> released_ = false;
  std::atomic<bool> done_ = false;

  std::list<Link> links_;  // of thread_ only
  std::jthread thread_;
};

}  // namespace millrace::sinks::testing
