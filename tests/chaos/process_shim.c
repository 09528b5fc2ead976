/* SPDX-License-Identifier: Apache-2.0 */
/* Loaded into Millrace by LD_PRELOAD: a wall clock that jumps, and a disk without room.
 *
 * MILLRACE_CHAOS_CONTROL names a file of two int64 that is read at each call: the nanoseconds by which
 * the wall clock is off, and whether writes below the folder MILLRACE_CHAOS_DATA meet a full disk. A
 * wait until a moment of the wall clock waits as long as it would have without the jump.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct Control {
  int64_t clock_offset_ns;
  int64_t disk_is_full;
};

enum { kSecond = 1000000000 };

static struct Control no_control;
static volatile struct Control* control = &no_control;
static const char* data_dir = "";
static int (*next_timedwait)(pthread_cond_t*, pthread_mutex_t*, const struct timespec*);

__attribute__((constructor)) static void Load(void) {
  const char* path = getenv("MILLRACE_CHAOS_CONTROL");
  const int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void* page = mmap(NULL, sizeof(struct Control), PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (page == MAP_FAILED) return;
  const char* directory = getenv("MILLRACE_CHAOS_DATA");
  if (directory != NULL) data_dir = directory;
  control = page;
}

static struct timespec Shifted(const struct timespec* at, int64_t by_ns) {
  const int64_t ns = (int64_t)at->tv_nsec + by_ns % kSecond;
  const int64_t carry = ns < 0 ? -1 : ns / kSecond;
  const struct timespec result = {at->tv_sec + by_ns / kSecond + carry, ns - carry * kSecond};
  return result;
}

int clock_gettime(clockid_t clock, struct timespec* out) {
  const int result = (int)syscall(SYS_clock_gettime, clock, out);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    *out = Shifted(out, control->clock_offset_ns);
  }
  return result;
}

int gettimeofday(struct timeval* restrict out, void* restrict zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t* out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != NULL) *out = now.tv_sec;
  return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t* restrict condition, pthread_mutex_t* restrict mutex,
                           const struct timespec* restrict deadline) {
  if (next_timedwait == NULL) {
    void* symbol = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (symbol == NULL) symbol = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    memcpy(&next_timedwait, &symbol, sizeof(symbol));
  }
  /* A deadline of the monotonic clock counts from the start of the machine. */
  if (deadline->tv_sec < 1000 * 1000 * 1000) return next_timedwait(condition, mutex, deadline);
  const struct timespec shifted = Shifted(deadline, -control->clock_offset_ns);
  return next_timedwait(condition, mutex, &shifted);
}

static int MeetsFullDisk(int fd) {
  if (!control->disk_is_full) return 0;
  char link[64];
  char path[4096];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t size = readlink(link, path, sizeof(path) - 1);
  if (size < 0) return 0;
  path[size] = 0;
  const size_t length = strlen(data_dir);
  if (length == 0 || strncmp(path, data_dir, length) != 0) return 0;
  errno = ENOSPC;
  return 1;
}

ssize_t write(int fd, const void* data, size_t size) {
  return MeetsFullDisk(fd) ? -1 : syscall(SYS_write, fd, data, size);
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  return MeetsFullDisk(fd) ? -1 : syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) {
  return MeetsFullDisk(fd) ? -1 : syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t writev(int fd, const struct iovec* parts, int count) {
  return MeetsFullDisk(fd) ? -1 : syscall(SYS_writev, fd, parts, count);
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
  return MeetsFullDisk(fd) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
  return MeetsFullDisk(fd) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, size);
}
