/* Preloaded into the daemon: fsync and fdatasync that do less than they say.
 *
 * UNSYNCED=off     none of them reaches the device, as SQLite's synchronous=OFF.
 * UNSYNCED=normal  the write-ahead log is not synced at a commit, but before the
 *                  database is at a checkpoint, as synchronous=NORMAL. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int log_fd = -1;

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static int sync_as(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *how = getenv("UNSYNCED");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    if (how && strcmp(how, "off") == 0) return 0;
    if (how && strcmp(how, "normal") == 0) {
        if (ends_with(path, "-wal")) {
            log_fd = fd;
            return 0;
        }
        if (ends_with(path, ".db") && log_fd >= 0 && real(log_fd) != 0) return -1;
    }
    return real(fd);
}

int fsync(int fd) { return sync_as("fsync", fd); }
int fdatasync(int fd) { return sync_as("fdatasync", fd); }
