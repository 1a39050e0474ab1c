/* Preloaded into a process under test: makes its fsync slow or failing, shifts its wall clock, and logs its calls.
 *
 * PRELOAD_ORDERS  a file of 16 bytes that says what to do now (shim.py writes it while the process runs)
 * PRELOAD_PATH    only files whose path contains this have a slow or failing fsync; unset: all files
 * PRELOAD_LOG     gets a line for each request read ("request"), each answer of 200 written ("200"), and each fsync or
 *                 fdatasync of such a file ("fsync PATH", or "failed PATH"); unset: nothing is logged
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct orders {
    int32_t fsync_delay_ms;
    int32_t fsync_error; /* an errno; 0 lets fsync succeed */
    int64_t clock_seconds;
};

static const struct orders none;
static const volatile struct orders *orders = &none;
static const char *log_file, *path_part;

/* A copy, because Valkey writes its process title over the environment. */
static const char *copy_setting(const char *name) {
    const char *value = getenv(name);
    return value ? strdup(value) : NULL;
}

__attribute__((constructor)) static void start(void) {
    const char *name = getenv("PRELOAD_ORDERS");
    int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *map = mmap(NULL, sizeof(struct orders), PROT_READ, MAP_SHARED, fd, 0);
        if (map != MAP_FAILED)
            orders = map;
        close(fd);
    }
    log_file = copy_setting("PRELOAD_LOG");
    path_part = copy_setting("PRELOAD_PATH");
}

static void note(const char *event, const char *path) {
    char line[PATH_MAX + 32];
    if (log_file == NULL)
        return;
    int length = snprintf(line, sizeof line, "%s%s%s\n", event, path[0] ? " " : "", path);
    int fd = open(log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (syscall(SYS_write, fd, line, length) < 0)
            abort();
        close(fd);
    }
}

/* Writes the file's path; returns whether the orders apply to the file. */
static int is_affected(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return path_part == NULL || strstr(path, path_part) != NULL;
}

static int sync_file(long call, int fd) {
    char path[PATH_MAX];
    if (!is_affected(fd, path))
        return (int)syscall(call, fd);
    int32_t delay = orders->fsync_delay_ms;
    if (delay > 0) {
        struct timespec rest = {delay / 1000, (delay % 1000) * 1000000L};
        while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
            ;
    }
    int error = orders->fsync_error;
    int result = error ? -1 : (int)syscall(call, fd);
    int result_errno = error ? error : errno;
    note(result == 0 ? "fsync" : "failed", path);
    errno = result_errno;
    return result;
}

int fsync(int fd) { return sync_file(SYS_fsync, fd); }

int fdatasync(int fd) { return sync_file(SYS_fdatasync, fd); }

static void note_answer(const char *bytes, size_t length) {
    if (log_file != NULL && length >= 12 && memcmp(bytes, "HTTP/1.1 200", 12) == 0)
        note("200", "");
}

ssize_t write(int fd, const void *bytes, size_t length) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real)
        real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    note_answer(bytes, length);
    return real(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real)
        real = (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
    if (count > 0)
        note_answer(parts[0].iov_base, parts[0].iov_len);
    return real(fd, parts, count);
}

ssize_t read(int fd, void *bytes, size_t length) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real)
        real = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    ssize_t got = real(fd, bytes, length);
    if (log_file != NULL && got >= 5 && memcmp(bytes, "POST ", 5) == 0)
        note("request", "");
    return got;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += orders->clock_seconds;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME_COARSE, &exact) != 0)
        return -1;
    if (into)
        *into = exact.tv_sec;
    return exact.tv_sec;
}
