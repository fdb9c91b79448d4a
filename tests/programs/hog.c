// hog NAME CPU SECONDS: runs on one processor and never sleeps, and says as one line of JSON what the kernel counted for
// it in that time: how long it waited for the processor, by schedstat and, where it can be had, by its delay accounting,
// and how often it left it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "moment.h"
#include "taskstats.h"

struct reading {
    double queued, delayed; // delayed is -1 where the kernel does not tell.
    long voluntary, involuntary;
};

static struct taskstats_socket accounting;
static int schedstat;

static struct reading read_all(void)
{
    long waited = moment_queued(schedstat);
    if (waited < 0)
        exit(3);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    struct delays delays = {.cpu = -1};
    taskstats_read(accounting, &delays);
    return (struct reading){waited / 1e9, delays.cpu, usage.ru_nvcsw, usage.ru_nivcsw};
}

static void print_between(struct reading from, struct reading to)
{
    printf("{\"run_queue_seconds\":%.9f,\"voluntary\":%ld,\"involuntary\":%ld", to.queued - from.queued,
           to.voluntary - from.voluntary, to.involuntary - from.involuntary);
    if (from.delayed >= 0)
        printf(",\"delay_seconds\":%.9f", to.delayed - from.delayed);
    printf("}");
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(atoi(argv[2]), &one);
    if (sched_setaffinity(0, sizeof one, &one))
        return 1;
    schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    accounting = taskstats_open();
    // The first reading brings its code and memory. It is named within the outer readings and all of the inner ones.
    read_all();
    struct reading outer = read_all();
    prctl(PR_SET_NAME, argv[1]);
    struct reading inner = read_all();
    double end = moment_clock(CLOCK_MONOTONIC) + atof(argv[3]) * 1e9;
    while (moment_clock(CLOCK_MONOTONIC) < end)
        ;
    struct reading last = read_all();
    prctl(PR_SET_NAME, "hog-ended");
    struct reading beyond = read_all();
    printf("{\"least\":");
    print_between(inner, last);
    printf(",\"most\":");
    print_between(outer, beyond);
    printf("}\n");
    return 0;
}
