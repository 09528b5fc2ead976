// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <pthread.h>

namespace millrace::pipeline {

// Names the calling thread; Linux keeps 15 characters.
inline void NameThread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

}  // namespace millrace::pipeline
