// pods stay CGROUP OTHER SLEEPS MILLISECONDS CPU SECONDS: enters a cgroup, sleeps so often and so long, then wants one
// processor for so long, and goes on to the other cgroup. Says as one line of JSON how long it slept, by its own clock, and how
// long it waited for the processor, by the kernel's count, at least and at most.
//
// pods blocked CGROUP SLEEPS MILLISECONDS: enters a cgroup and is blocked there so often and so long.
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

#include "moment.h"

enum { SLEEPS = 3 };

static double now(void)
{
    return moment_clock(CLOCK_MONOTONIC) / 1e9;
}

static void pause_for(double length)
{
    struct timespec time = {(time_t)length, (long)((length - (time_t)length) * 1e9)};
    while (nanosleep(&time, &time) && errno == EINTR)
        ;
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

static int stay(char **arguments)
{
    int sleeps = atoi(arguments[2]), cpu = atoi(arguments[4]);
    double length = atof(arguments[3]) / 1e3, spin = atof(arguments[5]);
    int schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    // The first moment brings its code and memory. It is in the cgroup within the outer ones and all of the inner ones.
    if (moment_now(schedstat).queued < 0)
        return 3;
    struct moment outer = moment_now(schedstat);
    if (enter(arguments[0]))
        return 1;
    struct moment inner = moment_now(schedstat);
    for (int i = 0; i < sleeps; i++)
        pause_for(length);
    struct moment woken = moment_now(schedstat);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one))
        return 1;
    struct moment begun = moment_now(schedstat);
    while (now() < begun.time / 1e9 + spin)
        ;
    struct moment ended = moment_now(schedstat);
    if (enter(arguments[1]))
        return 1;
    struct moment beyond = moment_now(schedstat);
    printf("{\"least\":{\"slept\":%.9f,\"queued\":%.9f},", moment_slept(inner, woken) / 1e9,
           (ended.queued - inner.queued) / 1e9);
    printf("\"most\":{\"slept\":%.9f,\"queued\":%.9f}}\n",
           (moment_slept(outer, begun) + moment_slept(ended, beyond)) / 1e9, (beyond.queued - outer.queued) / 1e9);
    return 0;
}

static int blocked(char **arguments)
{
    int sleeps = atoi(arguments[1]);
    double length = atof(arguments[2]) / 1e3;
    if (enter(arguments[0]))
        return 1;
    for (int i = 0; i < sleeps; i++) {
        // Whoever makes a process so sleeps uninterruptibly until that has ended.
        pid_t child = vfork();
        if (child == 0) {
            pause_for(length);
            _exit(0);
        }
        if (child < 0 || waitpid(child, 0, 0) != child)
            return 1;
    }
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
    if (count == 5 && !strcmp(arguments[1], "blocked"))
        return blocked(arguments + 2);
    if (count >= 5 && !strcmp(arguments[1], "storm"))
        return storm(count - 2, arguments + 2);
    return 2;
}
