/* SPDX-License-Identifier: Apache-2.0 */
/* Runs ClickHouse out of libchdb.so as a server.
 *
 *   chdb_server [--watchdog] ARGUMENT...
 *
 * The arguments go to ClickHouse as they are; their --query starts the listeners and then blocks.
 * With --watchdog a second process runs ClickHouse and is started again when it ends, until
 * SIGTERM or SIGINT arrives or it fails kMaxQuickFailures times in a row right after its start.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct chdb_result_ chdb_result;
extern chdb_result* chdb_query_cmdline(int argc, char** argv);
extern const char* chdb_result_error(chdb_result* result);

enum { kMaxQuickFailures = 5, kQuickSeconds = 3 };

static volatile sig_atomic_t stop_signal = 0;
static volatile pid_t child = 0;

static void OnStop(int signal_number) {
  stop_signal = signal_number;
  if (child > 0) kill(child, SIGTERM);
}

static int RunServer(int argc, char** argv) {
  argv[0] = "clickhouse";
  chdb_result* result = chdb_query_cmdline(argc, argv);
  const char* error = result != NULL ? chdb_result_error(result) : "no result";
  if (error == NULL) return 0;
  fprintf(stderr, "ClickHouse ended: %s\n", error);
  return 1;
}

/* argv[1] is "--watchdog"; the child gets the same arguments without it. */
static int RunWatchdog(char** argv) {
  /* Not /proc/self/exe itself, so that process listings show the program's name. */
  char program[4096] = {0};
  if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0) {
    perror("readlink");
    return 1;
  }
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_handler = OnStop;
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  sigset_t stops;
  sigemptyset(&stops);
  sigaddset(&stops, SIGTERM);
  sigaddset(&stops, SIGINT);

  int quick_failures = 0;
  while (!stop_signal && quick_failures < kMaxQuickFailures) {
    const time_t started = time(NULL);
    /* A stop that arrives between fork and the store of the child's id waits until both are done. */
    sigprocmask(SIG_BLOCK, &stops, NULL);
    const pid_t pid = fork();
    if (pid == 0) {
      sigprocmask(SIG_UNBLOCK, &stops, NULL);
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      argv[1] = argv[0];
      execv(program, argv + 1);
      perror("execv");
      _exit(127);
    }
    child = pid;
    sigprocmask(SIG_UNBLOCK, &stops, NULL);
    if (pid < 0) {
      perror("fork");
      return 1;
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
    }
    child = 0;
    if (stop_signal) break;
    fprintf(stderr, "watchdog: ClickHouse ended with status 0x%x and is started again\n",
            (unsigned)status);
    quick_failures = time(NULL) - started < kQuickSeconds ? quick_failures + 1 : 0;
    usleep(100 * 1000);
  }
  return stop_signal ? 0 : 1;
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "--watchdog") == 0) return RunWatchdog(argv);
  return RunServer(argc, argv);
}
