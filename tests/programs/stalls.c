/* How long a processor of the guest stood still, at the most: a task of the highest priority on each of them sleeps a millisecond at
 * a time, and only a processor that its host does not run wakes it late. Writes the longest delay in milliseconds to the first file
 * that is named, when it is told to end; and until then a byte to the second, each second in which every processor ran its task. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t ended;

static void end(int signal) {
    (void)signal;
    ended = 1;
}

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

int main(int count, char **words) {
    if (count != 3)
        return 2;
    int beats = open(words[2], O_WRONLY | O_NOCTTY);
    if (beats < 0)
        return 1;
    struct of_processor {
        volatile long long longest, woken;
    } *of = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (of == MAP_FAILED)
        return 1;
    struct sigaction on_end = {.sa_handler = end};
    sigaction(SIGTERM, &on_end, NULL);
    int processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
    pid_t pids[64];
    if (processors > 64)
        processors = 64;
    for (int cpu = 0; cpu < processors; cpu++) {
        pids[cpu] = fork();
        if (pids[cpu] != 0)
            continue;
        cpu_set_t own;
        CPU_ZERO(&own);
        CPU_SET(cpu, &own);
        struct sched_param first = {.sched_priority = 99};
        if (sched_setaffinity(0, sizeof own, &own) || sched_setscheduler(0, SCHED_FIFO, &first))
            return 1;
        const struct timespec nap = {0, 1000000};
        while (!ended) {
            long long before = now();
            nanosleep(&nap, NULL);
            long long late = now() - before - 1000000;
            if (late > of[cpu].longest)
                of[cpu].longest = late;
            of[cpu].woken++;
        }
        return 0;
    }
    long long seen[64] = {0};
    while (!ended) {
        sleep(1);
        int all = 1;
        for (int cpu = 0; cpu < processors; cpu++) {
            all = all && of[cpu].woken != seen[cpu];
            seen[cpu] = of[cpu].woken;
        }
        if (all && write(beats, ".", 1) != 1)
            return 1;
    }
    long long most = 0;
    for (int cpu = 0; cpu < processors; cpu++) {
        if (pids[cpu] > 0)
            kill(pids[cpu], SIGTERM);
        if (of[cpu].longest > most)
            most = of[cpu].longest;
    }
    while (wait(NULL) > 0)
        ;
    FILE *file = fopen(words[1], "w");
    if (!file || fprintf(file, "%lld\n", most / 1000000) < 0)
        return 1;
    return fclose(file) != 0;
}
