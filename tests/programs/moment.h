// A moment by three clocks of this thread, for programs that say how long they slept.
#ifndef MOMENT_H
#define MOMENT_H

#include <stdio.h>
#include <time.h>
#include <unistd.h>

// In nanoseconds: by the clock on the wall, how long it ran, how long it waited for a processor by the kernel's own count.
struct moment {
    long time, ran, queued;
};

static inline long moment_clock(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

// The file is this thread's `schedstat`; -1 where the kernel does not count.
static inline long moment_queued(int schedstat)
{
    char text[128] = "";
    unsigned long ran, waited;
    if (schedstat < 0 || pread(schedstat, text, sizeof text - 1, 0) <= 0 || sscanf(text, "%lu %lu", &ran, &waited) != 2)
        return -1;
    return (long)waited;
}

// All three at once: who waits for a processor between two readings reads again, because the clocks would tell of different
// times.
static inline struct moment moment_now(int schedstat)
{
    struct moment at;
    do {
        at.queued = moment_queued(schedstat);
        at.time = moment_clock(CLOCK_MONOTONIC);
        at.ran = moment_clock(CLOCK_THREAD_CPUTIME_ID);
    } while (moment_queued(schedstat) != at.queued);
    return at;
}

// Nanoseconds between them that it did neither run nor wait for a processor.
static inline long moment_slept(struct moment from, struct moment to)
{
    return to.time - from.time - (to.ran - from.ran) - (to.queued - from.queued);
}

#endif
