// waits [--stacks] KIND COUNT [MS]: sleeps COUNT times in one known way, MS milliseconds each, and says as one line of
// JSON how long the calls took by its own clock, and how much of that it ran or waited for a processor: the rest it
// slept; and, where it can be had, how long it waited for block devices by the kernel's delay accounting. `waits --list`
// prints the kinds.
//
// The sleeper has the kind's name as the name of its task; what wakes it is another process named `waker`. They agree
// through shared memory, so that the sleeper has no sleeps but the one that it is for. Kinds that need a slow device
// take a directory on one from $WAITS_DIRECTORY, and the device itself from $WAITS_DEVICE.
#include "waits.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../moment.h"
#include "../taskstats.h"
#include "stacks.h"

long length_ns = 50000000;
pid_t sleeper, waker;

static const struct kind *const tables[] = {time_kinds,   process_kinds, lock_kinds,   ipc_kinds,
                                            socket_kinds, event_kinds,   memory_kinds,  fuse_kinds,   device_kinds};
static const struct kind *kind;
static char work[128];

// How far the two processes are: numbers of sleeps.
static struct {
    atomic_int wanted, armed, woken, ended;
} *turn;

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void clean(void)
{
    if (getpid() == sleeper && work[0])
        nftw(work, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void end_children(void)
{
    if (waker > 0)
        kill(waker, SIGKILL);
    stacks_end();
}

void skip(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("{\"kind\":\"%s\",\"skipped\":\"", kind->name);
    vprintf(format, arguments);
    printf("\"}\n");
    fflush(stdout);
    end_children();
    clean();
    _exit(0);
}

void fail(const char *what)
{
    fprintf(stderr, "waits: %s: %s: %s\n", kind ? kind->name : "?", what, strerror(errno));
    if (getpid() == sleeper) {
        end_children();
        clean();
    } else {
        kill(sleeper, SIGKILL);
    }
    _exit(1);
}

long check(long result, const char *what)
{
    if (result < 0)
        fail(what);
    return result;
}

const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", work, name);
    return path;
}

void pause_ns(long ns)
{
    struct timespec left = {ns / 1000000000, ns % 1000000000};
    while (nanosleep(&left, &left))
        ;
}

void *shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    return memory;
}

static void be_waker(int count)
{
    prctl(PR_SET_NAME, "waker");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int turns = 1; turns <= count; turns++) {
        while (turn->wanted < turns)
            pause_ns(500000);
        if (kind->arm)
            kind->arm();
        turn->armed = turns;
        pause_ns(length_ns);
        kind->wake();
        turn->woken = turns;
    }
    // Its end closes files and would wake a sleeper once more.
    for (;;)
        pause();
}

// Stays on the processor that it is on. Since 6.12 a task that goes to sleep may be left in the run queue for a while, and if it
// is moved with that, the kernel counts the whole sleep as a wait for a processor (`sched_info_enqueue`).
static void stay(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(check(sched_getcpu(), "sched_getcpu"), &one);
    check(sched_setaffinity(0, sizeof one, &one), "sched_setaffinity");
}

static void list(void)
{
    for (size_t table = 0; table < sizeof tables / sizeof *tables; table++)
        for (const struct kind *one = tables[table]; one->name; one++)
            printf("%s\n", one->name);
}

static const struct kind *find(const char *name)
{
    for (size_t table = 0; table < sizeof tables / sizeof *tables; table++)
        for (const struct kind *one = tables[table]; one->name; one++)
            if (!strcmp(one->name, name))
                return one;
    return NULL;
}

static void print_reasons(void)
{
    printf("\"reasons\":[");
    const char *separator = "";
    for (const char *at = kind->reasons; *at;) {
        int size = strcspn(at, " ");
        printf("%s\"%.*s\"", separator, size, at);
        separator = ",";
        at += size + (at[size] == ' ');
    }
    printf("]");
}

int main(int argc, char **argv)
{
    bool with_stacks = argc > 1 && !strcmp(argv[1], "--stacks");
    if (argc > 1 && !strcmp(argv[1], "--list"))
        return list(), 0;
    argc -= with_stacks;
    argv += with_stacks;
    if (argc < 3 || !(kind = find(argv[1]))) {
        fprintf(stderr, "usage: waits [--stacks] KIND COUNT [MS], with a KIND of `waits --list`\n");
        return 2;
    }
    int count = atoi(argv[2]);
    if (kind->most && count > kind->most)
        count = kind->most;
    if (argc > 3)
        length_ns = atol(argv[3]) * 1000000;
    const char *temporary = getenv("TMPDIR");
    snprintf(work, sizeof work, "%s/waits.XXXXXX", temporary ? temporary : "/tmp");
    sleeper = getpid();
    if (!mkdtemp(work)) {
        work[0] = 0;
        fail("mkdtemp");
    }
    turn = shared(sizeof *turn);
    if (kind->prepare)
        kind->prepare();
    if (kind->wake && !(waker = check(fork(), "fork")))
        be_waker(count);
    if (with_stacks)
        stacks_begin(sleeper);
    stay();
    int schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    struct taskstats_socket accounting = taskstats_open();
    struct delays delays_before, delays_after;
    bool has_delays = taskstats_read(accounting, &delays_before);
    struct rusage before, after;
    long whole = 0, ran = 0, queued = 0, voluntary = 0, involuntary = 0;
    for (int turns = 1; turns <= count; turns++) {
        if (kind->before)
            kind->before();
        if (kind->wake) {
            turn->wanted = turns;
            while (turn->armed < turns)
                sched_yield();
        }
        getrusage(RUSAGE_SELF, &before);
        // Only now has this program the name; others may have it as well.
        prctl(PR_SET_NAME, kind->name);
        struct moment begun = moment_now(schedstat);
        kind->sleep();
        struct moment ended = moment_now(schedstat);
        prctl(PR_SET_NAME, "waits");
        getrusage(RUSAGE_SELF, &after);
        voluntary += after.ru_nvcsw - before.ru_nvcsw;
        involuntary += after.ru_nivcsw - before.ru_nivcsw;
        whole += ended.time - begun.time;
        ran += ended.ran - begun.ran;
        queued += ended.queued - begun.queued;
        // It may wake up for another reason than the waker's.
        while (kind->wake && turn->woken < turns)
            sched_yield();
        if (kind->after)
            kind->after();
    }
    has_delays = has_delays && taskstats_read(accounting, &delays_after);
    end_children();
    if (kind->end)
        kind->end();
    printf("{\"kind\":\"%s\",", kind->name);
    print_reasons();
    printf(",\"sleeps\":%d,\"seconds\":%.9f,\"run_seconds\":%.9f,", count, whole / 1e9, ran / 1e9);
    if (schedstat >= 0)
        printf("\"run_queue_seconds\":%.9f,", queued / 1e9);
    if (has_delays)
        printf("\"block_delay_seconds\":%.9f,", delays_after.block - delays_before.block);
    printf("\"voluntary\":%ld,\"involuntary\":%ld", voluntary, involuntary);
    if (with_stacks)
        stacks_print();
    printf("}\n");
    fflush(stdout);
    clean();
    _exit(0);
}
