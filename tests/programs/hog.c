// hog NAME CPU SECONDS: runs on one processor and never sleeps, and says as one line of JSON what the kernel counted for
// it in that time: how long it waited for the processor, and how often it left it.
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static double waited(void)
{
    unsigned long ran, waited = 0;
    FILE *file = fopen("/proc/thread-self/schedstat", "r");
    if (!file || fscanf(file, "%lu %lu", &ran, &waited) != 2)
        exit(3);
    fclose(file);
    return waited / 1e9;
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
    // The first reading brings its code and memory.
    waited();
    prctl(PR_SET_NAME, argv[1]);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    double queued = waited(), end = now() + atof(argv[3]);
    while (now() < end)
        ;
    queued = waited() - queued;
    getrusage(RUSAGE_SELF, &after);
    prctl(PR_SET_NAME, "hog-ended");
    printf("{\"run_queue_seconds\":%.9f,\"voluntary\":%ld,\"involuntary\":%ld}\n", queued,
           after.ru_nvcsw - before.ru_nvcsw, after.ru_nivcsw - before.ru_nivcsw);
    return 0;
}
