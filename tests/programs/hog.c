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

struct reading {
    double queued;
    long voluntary, involuntary;
};

static struct reading read_all(void)
{
    unsigned long ran, waited = 0;
    FILE *file = fopen("/proc/thread-self/schedstat", "r");
    if (!file || fscanf(file, "%lu %lu", &ran, &waited) != 2)
        exit(3);
    fclose(file);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct reading){waited / 1e9, usage.ru_nvcsw, usage.ru_nivcsw};
}

static void print_between(struct reading from, struct reading to)
{
    printf("{\"run_queue_seconds\":%.9f,\"voluntary\":%ld,\"involuntary\":%ld}", to.queued - from.queued,
           to.voluntary - from.voluntary, to.involuntary - from.involuntary);
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
    // The first reading brings its code and memory. It is named within the outer readings and all of the inner ones.
    read_all();
    struct reading outer = read_all();
    prctl(PR_SET_NAME, argv[1]);
    struct reading inner = read_all();
    double end = now() + atof(argv[3]);
    while (now() < end)
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
