// Ways in which a process ends, asks for memory or for a right.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/capability.h>
#include <unistd.h>

static void *waits(void *unused)
{
    pause();
    return unused;
}

static void threads(int count)
{
    pthread_t thread;
    for (int index = 0; index < count; index++)
        if (pthread_create(&thread, NULL, waits, NULL))
            exit(1);
}

// Children that end by themselves, with threads and without, and by signals, with and without a dump.
static void ends(int count)
{
    static const int SIGNALS[] = {SIGKILL, SIGUSR2, SIGSEGV};
    struct rlimit no_dump = {0, 0};
    setrlimit(RLIMIT_CORE, &no_dump);
    for (int index = 0; index < count; index++) {
        if (!fork())
            _exit(77);
        if (!fork()) {
            threads(6);
            _exit(78);
        }
        for (int signal = 0; signal < 3; signal++) {
            if (fork())
                continue;
            // The command is the process's, whatever its threads are called.
            threads(3);
            prctl(PR_SET_NAME, "ends-by-signal");
            kill(getpid(), SIGNALS[signal]);
            pause();
        }
        while (wait(NULL) > 0)
            ;
    }
}

static void lives(int count, int ms)
{
    for (int index = 0; index < count; index++)
        if (!fork()) {
            usleep(ms * 1000);
            _exit(79);
        }
    while (wait(NULL) > 0)
        ;
}

// A right that it has given up, asked for.
static void refused(int count)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    prctl(PR_SET_NAME, "ends-refused");
    if (syscall(SYS_capset, &header, none))
        exit(1);
    int refusals = 0;
    for (int index = 0; index < count; index++)
        refusals += chroot("/") != 0;
    printf("refused %d\n", refusals);
}

// Touches memory until somebody ends it.
static void greedy(long mib)
{
    prctl(PR_SET_NAME, "ends-greedy");
    for (long index = 0; index < mib; index++) {
        char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            exit(1);
        memset(memory, 1, 1 << 20);
    }
}

// Reads a file through a mapping, a page here and a page there; says how many faults needed the disk.
static void faults(const char *path, int pages)
{
    prctl(PR_SET_NAME, "ends-faults");
    int file = open(path, O_RDONLY);
    if (file < 0 || posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED))
        exit(1);
    volatile char *memory = mmap(NULL, (size_t)pages * 65536, PROT_READ, MAP_PRIVATE, file, 0);
    if (memory == MAP_FAILED || madvise((void *)memory, (size_t)pages * 65536, MADV_RANDOM))
        exit(1);
    for (int page = 0; page < pages; page++)
        (void)memory[(size_t)page * 65536];
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("faults %ld\n", usage.ru_majflt);
}

int main(int count, char **words)
{
    if (count < 2)
        return 2;
    int first = count > 2 ? atoi(words[2]) : 0, second = count > 3 ? atoi(words[3]) : 0;
    if (!strcmp(words[1], "ends"))
        ends(first);
    else if (!strcmp(words[1], "lives"))
        lives(first, second);
    else if (!strcmp(words[1], "refused"))
        refused(first);
    else if (!strcmp(words[1], "greedy"))
        greedy(first);
    else if (!strcmp(words[1], "faults"))
        faults(words[2], second);
    else
        return 2;
}
