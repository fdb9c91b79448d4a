// family CHILDREN THREADS COUNT MS: a tree of processes and threads that sleep, and how long that was by their own clocks.
//
// Each child leaves the process group and makes a child of its own, which outlives it, so that its parent is another;
// both make threads. Every thread and first thread sleeps COUNT times for MS milliseconds by `clock_nanosleep`, and adds
// the time that its calls took, less what it ran or waited for a processor meanwhile. One line of JSON tells the sum and
// the number of sleeps and of tasks. SIGTERM for the first process ends them all.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static struct {
    atomic_long slept_ns, sleeps, tasks;
    atomic_int stop;
} *sums;
static int children, threads, count;
static long length_ns;

static void stop(int signal)
{
    (void)signal;
    atomic_store(&sums->stop, 1);
}

static void check(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        _exit(1);
    }
}

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

// Nanoseconds that this thread ran and waited for a processor since it began.
static long busy(int file)
{
    char text[128] = "";
    unsigned long ran, waited;
    check(pread(file, text, sizeof text - 1, 0) > 0 && sscanf(text, "%lu %lu", &ran, &waited) == 2, "schedstat");
    return ran + waited;
}

static void *sleep_often(void *unused)
{
    int file = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    check(file >= 0, "schedstat");
    atomic_fetch_add(&sums->tasks, 1);
    for (int turn = 0; turn < count && !atomic_load(&sums->stop); turn++) {
        struct timespec length = {length_ns / 1000000000, length_ns % 1000000000};
        long began = busy(file), before = now();
        // So that its sleeps are told from its waits for its threads.
        prctl(PR_SET_NAME, "nap");
        int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &length, NULL);
        prctl(PR_SET_NAME, "family");
        check(!error || atomic_load(&sums->stop), "clock_nanosleep");
        long after = now(), ended = busy(file);
        atomic_fetch_add(&sums->slept_ns, (after - before) - (ended - began));
        atomic_fetch_add(&sums->sleeps, 1);
    }
    close(file);
    return unused;
}

static void be_process(void)
{
    pthread_t made[64];
    for (int each = 0; each < threads; each++)
        check(!pthread_create(&made[each], NULL, sleep_often, NULL), "pthread_create");
    sleep_often(NULL);
    for (int each = 0; each < threads; each++)
        pthread_join(made[each], NULL);
}

int main(int argc, char **argv)
{
    if (argc != 5 || (threads = atoi(argv[2])) > 64) {
        fprintf(stderr, "usage: family CHILDREN THREADS COUNT MS\n");
        return 2;
    }
    children = atoi(argv[1]), count = atoi(argv[3]), length_ns = atol(argv[4]) * 1000000;
    sums = mmap(NULL, sizeof *sums, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(sums != MAP_FAILED, "mmap");
    int ends[2];
    check(!pipe(ends), "pipe");
    for (int each = 0; each < children; each++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (child)
            continue;
        setsid();
        child = fork();
        check(child >= 0, "fork");
        be_process();
        _exit(0);
    }
    close(ends[1]);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop, .sa_flags = SA_RESTART}, NULL);
    be_process();
    // All have the other end until they end, also those that are nobody's to wait for.
    check(!read(ends[0], &(char){0}, 1), "read");
    printf("{\"slept\":%.9f,\"sleeps\":%ld,\"tasks\":%ld}\n", sums->slept_ns / 1e9, sums->sleeps, sums->tasks);
    return 0;
}
