"""A wall clock that can be put forward and back, for processes that a test starts: a shim for LD_PRELOAD."""

import shutil
import struct
import subprocess
from pathlib import Path

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile long long *offset(void) {
    static volatile long long none = 0, *found = NULL;
    if (!found) {
        const char *path = getenv("CLOCK_OFFSET_FILE");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
        found = mapped == MAP_FAILED ? &none : mapped;
    }
    return found;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *) = NULL;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += *offset();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    static int (*real)(struct timeval *, void *) = NULL;
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    now->tv_sec += *offset();
    return result;
}

time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept) *kept = now.tv_sec;
    return now.tv_sec;
}
"""


class WallClock:
    """Shifts the wall clock, and no other, of every process that has ``environment``."""

    def __init__(self, folder: Path) -> None:
        source, shim = folder / "clock.c", folder / "clock.so"
        self._offset = folder / "clock.offset"
        self.put(0)
        source.write_text(SHIM)
        subprocess.run(
            (compiler(), "-O1", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"), check=True, timeout=60
        )
        self.environment = {"LD_PRELOAD": str(shim), "CLOCK_OFFSET_FILE": str(self._offset)}

    def put(self, seconds: int) -> None:
        """Let it be so many seconds later than it is."""
        if not self._offset.exists():
            self._offset.write_bytes(bytes(8))
        with self._offset.open("r+b") as file:  # in place: the processes have mapped it
            file.write(struct.pack("q", seconds))


def compiler() -> str:
    """A C compiler, or nothing."""
    return shutil.which("gcc") or shutil.which("cc") or ""
