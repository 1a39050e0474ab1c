/* Preloaded into a process under test: makes fsync slow or failing on demand, and logs what comes in which order.
 *
 * SHIM_PATH   a part of the paths of the files meant
 * SHIM_FAIL   while this file exists, fsync and fdatasync of such files fail (EIO)
 * SHIM_SLOW   while this file exists, they take as many more milliseconds as it says
 * SHIM_LOG    gets a line for each request read ("request"), each answer of 200 written ("200"), each fsync or fdatasync
 *             of such a file ("fsync PATH", or "failed PATH")
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static ssize_t (*real_write)(int, const void *, size_t);

static void note(const char *what, const char *path) {
    char line[PATH_MAX + 32];
    const char *log = getenv("SHIM_LOG");
    if (log == NULL)
        return;
    int length = snprintf(line, sizeof line, "%s%s%s\n", what, path[0] ? " " : "", path);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        real_write = real_write ? real_write : dlsym(RTLD_NEXT, "write");
        if (real_write(fd, line, length) < 0)
            abort();
        close(fd);
    }
}

/* Whether the file is meant; its path. */
static int meant(int fd, char path[PATH_MAX]) {
    char link[64];
    const char *part = getenv("SHIM_PATH");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return part != NULL && strstr(path, part) != NULL;
}

static int synced(int fd, const char *name) {
    char path[PATH_MAX];
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (!meant(fd, path))
        return real(fd);
    const char *slow = getenv("SHIM_SLOW");
    FILE *file = slow ? fopen(slow, "r") : NULL;
    if (file != NULL) {
        int ms = 0;
        if (fscanf(file, "%d", &ms) == 1)
            usleep(1000 * ms);
        fclose(file);
    }
    const char *fail = getenv("SHIM_FAIL");
    if (fail != NULL && access(fail, F_OK) == 0) {
        note("failed", path);
        errno = EIO;
        return -1;
    }
    int result = real(fd);
    note(result == 0 ? "fsync" : "failed", path);
    return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }

int fdatasync(int fd) { return synced(fd, "fdatasync"); }

static void sent(const char *bytes, size_t length) {
    if (length >= 12 && memcmp(bytes, "HTTP/1.1 200", 12) == 0)
        note("200", "");
}

ssize_t write(int fd, const void *bytes, size_t length) {
    real_write = real_write ? real_write : dlsym(RTLD_NEXT, "write");
    sent(bytes, length);
    return real_write(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
    if (count > 0)
        sent(parts[0].iov_base, parts[0].iov_len);
    return real(fd, parts, count);
}

ssize_t read(int fd, void *bytes, size_t length) {
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    ssize_t got = real(fd, bytes, length);
    if (got >= 5 && memcmp(bytes, "POST ", 5) == 0)
        note("request", "");
    return got;
}
