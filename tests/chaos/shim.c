/* Preloaded into a process under test: makes its fsync slow or failing and shifts its wall clock, while it runs.
   CHAOS_SHIM names a file of 16 bytes that tells what to do (tests/chaos/shim.py writes it). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct orders {
    int32_t fsync_delay_ms;
    int32_t fsync_error; /* an errno; 0 lets it succeed */
    int64_t clock_seconds;
};

static const struct orders none;
static const volatile struct orders *orders = &none;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("CHAOS_SHIM");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *map = mmap(NULL, sizeof(struct orders), PROT_READ, MAP_SHARED, file, 0);
    if (map != MAP_FAILED)
        orders = map;
    close(file);
}

static int sync_file(long call, int file) {
    int32_t delay = orders->fsync_delay_ms;
    if (delay > 0) {
        struct timespec left = {delay / 1000, (delay % 1000) * 1000000L};
        while (nanosleep(&left, &left) != 0 && errno == EINTR)
            ;
    }
    if (orders->fsync_error) {
        errno = orders->fsync_error;
        return -1;
    }
    return (int)syscall(call, file);
}

int fsync(int file) { return sync_file(SYS_fsync, file); }

int fdatasync(int file) { return sync_file(SYS_fdatasync, file); }

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
