// Calls of the C library and of the kernel that are counted by the program itself: one line `NAME NUMBER` for each, or
// `NAME NUMBER NUMBER …`, on standard output.
#define _GNU_SOURCE
#include <netdb.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

// Allocations of known sizes, through a pointer so that none is optimized away.
static void allocations(int count)
{
    void *(*volatile allocate)(size_t) = malloc;
    long bytes = 0;
    // A name of its own for the calls that are counted: the C library allocates something, too, before and after.
    prctl(PR_SET_NAME, "library_malloc");
    for (int index = 0; index < count; index++) {
        size_t size = 16 + index % 1000;
        free(allocate(size));
        bytes += size;
    }
    // More than there is address space.
    int failed = allocate((size_t)1 << 47) == NULL;
    prctl(PR_SET_NAME, "library");
    printf("malloc %d %ld %d\n", count, bytes, failed);
}

static void look_ups(const char *host, int count)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    for (int index = 0; index < count; index++) {
        struct addrinfo *found = NULL;
        long begun = now();
        int error = getaddrinfo(host, NULL, &hints, &found);
        printf("getaddrinfo %d %ld\n", error, now() - begun);
        if (!error)
            freeaddrinfo(found);
    }
}

// Calls that hardly anything else on a system makes, some of them refused.
static void system_calls(void)
{
    for (int index = 0; index < 700; index++)
        syscall(SYS_sched_get_priority_max, SCHED_FIFO);
    for (int index = 0; index < 300; index++)
        syscall(SYS_sched_get_priority_max, 4711);
    for (int index = 0; index < 200; index++)
        syscall(SYS_sched_rr_get_interval, -1, NULL);
    for (int index = 0; index < 150; index++)
        syscall(SYS_getsid, 0x3fffffff);
    for (int index = 0; index < 50; index++)
        syscall(SYS_acct, "/nonexistent/file");
    for (int index = 0; index < 40; index++)
        syscall(4000, 0);
    for (int index = 0; index < 5; index++) {
        struct timespec time = {0, 20000000};
        long begun = now();
        syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &time, NULL);
        printf("clock_nanosleep %ld\n", now() - begun);
    }
}

// Calls by the numbers of 32 bits, from code of 64: which they are no register tells but the gate that they came by.
static int compat_calls(void)
{
#ifdef __x86_64__
    for (long call = 0; call < 90; call++) {
        // getpgid: this process's own, and that of none.
        long number = 132, process = call % 3 ? 0 : 0x7ffffff0;
        __asm__ volatile("int $0x80" : "+a"(number) : "b"(process) : "memory", "r8", "r9", "r10", "r11");
        if (((int)number > 0) != (call % 3 != 0))
            return 3;
    }
    // The same number of 64 bits is another call.
    for (long call = 0; call < 20; call++)
        syscall(132, "/nonexistent/file", 0L);
    return 0;
#else
    return 4;
#endif
}

int main(int count, char **arguments)
{
    // What the library allocates for itself is allocated by now.
    setvbuf(stdout, NULL, _IONBF, 0);
    const char *what = count > 1 ? arguments[1] : "";
    if (!strcmp(what, "malloc"))
        allocations(20000);
    else if (!strcmp(what, "getaddrinfo")) {
        look_ups("127.0.0.1", 400);
        look_ups("no such name", 100);
    } else if (!strcmp(what, "syscalls"))
        system_calls();
    else if (!strcmp(what, "compat"))
        return compat_calls();
    else
        return 2;
    return 0;
}
