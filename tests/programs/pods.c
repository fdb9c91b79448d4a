// pods stay CGROUP OTHER SLEEPS MILLISECONDS CPU SECONDS: enters a cgroup, sleeps so often and so long, then wants one
// processor for so long, and goes on to the other cgroup. Says as one line of JSON how long it slept, by its own clock, and how
// long it waited for the processor, by the kernel's count, at least and at most.
//
// pods storm COUNT SECONDS CGROUP…: makes so many cgroups in that time, below those given in turn, each named like a
// container; a process enters it, sleeps three times and ends, and the cgroup is removed. Says as one line of JSON how often
// these processes left the processor by themselves while they were called `storm`, at least and at most.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLEEPS = 3 };

static double seconds(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static double now(void)
{
    return seconds(CLOCK_MONOTONIC);
}

static void pause_for(double length)
{
    struct timespec time = {(time_t)length, (long)((length - (time_t)length) * 1e9)};
    while (nanosleep(&time, &time) && errno == EINTR)
        ;
}

// How long this thread waited for a processor.
static double queued(void)
{
    unsigned long ran, waited = 0;
    FILE *file = fopen("/proc/thread-self/schedstat", "r");
    if (!file || fscanf(file, "%lu %lu", &ran, &waited) != 2)
        exit(3);
    fclose(file);
    return waited / 1e9;
}

static int enter(const char *cgroup)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, "0", 1) != 1) {
        perror(path);
        return 1;
    }
    close(fd);
    return 0;
}

struct reading {
    double time, ran, queued;
};

// All three at one time: where this thread was interrupted in between, again.
static struct reading look(void)
{
    struct reading reading;
    do
        reading = (struct reading){now(), seconds(CLOCK_THREAD_CPUTIME_ID), queued()};
    while (now() - reading.time > 200e-6);
    return reading;
}

static double slept(struct reading from, struct reading to)
{
    return to.time - from.time - (to.ran - from.ran) - (to.queued - from.queued);
}

static int stay(char **arguments)
{
    int sleeps = atoi(arguments[2]), cpu = atoi(arguments[4]);
    double length = atof(arguments[3]) / 1e3, spin = atof(arguments[5]);
    // The first reading brings its code and memory. It is in the cgroup within the outer readings and all of the inner ones.
    look();
    struct reading outer = look();
    if (enter(arguments[0]))
        return 1;
    struct reading inner = look();
    for (int i = 0; i < sleeps; i++)
        pause_for(length);
    struct reading woken = look();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one))
        return 1;
    struct reading begun = look();
    while (now() < begun.time + spin)
        ;
    struct reading ended = look();
    if (enter(arguments[1]))
        return 1;
    struct reading beyond = look();
    printf("{\"least\":{\"slept\":%.9f,\"queued\":%.9f},", slept(inner, woken), ended.queued - inner.queued);
    printf("\"most\":{\"slept\":%.9f,\"queued\":%.9f}}\n", slept(outer, begun) + slept(ended, beyond),
           beyond.queued - outer.queued);
    return 0;
}

static long switches(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw;
}

struct counts {
    long least, most;
};

static int storm(int arguments, char **argument)
{
    int count = atoi(argument[0]), roots = arguments - 2;
    double length = atof(argument[1]), begun = now(), last = 0;
    struct counts *counts = mmap(0, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct counts all = {0, 0};
    for (int i = 0; i < count; i++) {
        char cgroup[4096];
        snprintf(cgroup, sizeof cgroup, "%s/%012x%052d", argument[2 + i % roots], i + 1, 5);
        if (mkdir(cgroup, 0755)) {
            perror(cgroup);
            return 1;
        }
        pid_t child = fork();
        if (child == 0) {
            if (enter(cgroup))
                _exit(1);
            switches();
            long outer = switches();
            prctl(PR_SET_NAME, "storm");
            long inner = switches();
            for (int sleep = 0; sleep < SLEEPS; sleep++)
                pause_for(0.0005);
            long ended = switches();
            prctl(PR_SET_NAME, "storm-ended");
            *counts = (struct counts){ended - inner, switches() - outer};
            _exit(0);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status)
            return 1;
        all.least += counts->least;
        all.most += counts->most;
        for (int tries = 0; rmdir(cgroup); tries++) {
            if (tries == 1000) {
                perror(cgroup);
                return 1;
            }
            pause_for(0.001);
        }
        // Late ones catch up.
        double due = begun + length * (i + 1) / count;
        last = now();
        if (due > last)
            pause_for(due - last);
    }
    printf("{\"least\":%ld,\"most\":%ld,\"seconds\":%.3f}\n", all.least, all.most, last - begun);
    return 0;
}

int main(int count, char **arguments)
{
    if (count == 8 && !strcmp(arguments[1], "stay"))
        return stay(arguments + 2);
    if (count >= 5 && !strcmp(arguments[1], "storm"))
        return storm(count - 2, arguments + 2);
    return 2;
}
