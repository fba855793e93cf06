/* Preloaded into the daemon: its timers run HURRY times as fast. Only the clock
 * of timers is hurried; what the daemon decides on comes from the kernel. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long hurry(void) {
    const char *factor = getenv("HURRY");
    return factor ? atol(factor) : 1;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static struct timespec first;
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    if (failed || clock != CLOCK_MONOTONIC) return failed;
    if (first.tv_sec == 0) first = *time;
    long long passed = (time->tv_sec - first.tv_sec) * 1000000000LL;
    passed = (passed + time->tv_nsec - first.tv_nsec) * hurry() + first.tv_nsec;
    time->tv_sec = first.tv_sec + passed / 1000000000LL;
    time->tv_nsec = passed % 1000000000LL;
    return 0;
}

int epoll_wait(int fd, struct epoll_event *events, int count, int timeout) {
    long wait = timeout <= 0 ? timeout : timeout / hurry() + 1;
    return (int)syscall(SYS_epoll_pwait, fd, events, count, wait, NULL, 8);
}
