// Calls in a known order, and takes processor time or calls `probed` at their end.
//
//   stacks cpu MS       main → outer → middle → leaf, and through the library as well
//   stacks calls COUNT  main → first → probed and main → second → third → probed, COUNT times each
//   stacks wait         the same once, then sleeps until it is ended
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
// A call behind which something is left to do, so that no jump is made of it.
#define STAYS __asm__ volatile("" ::: "memory")

// From the library: calls back what it is given.
void library_enter(void (*back)(long), long value);

static volatile unsigned long sink;

static long used_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

NOINLINE void leaf(long until)
{
    while (used_ms() < until)
        for (int i = 0; i < 100000; i++)
            sink += i;
    STAYS;
}

NOINLINE void middle(long until) { leaf(until); STAYS; }
NOINLINE void outer(long until) { middle(until); STAYS; }

NOINLINE void probed(long value) { sink += value; STAYS; }
NOINLINE void first(long value) { probed(value); STAYS; }
NOINLINE void third(long value) { probed(value); STAYS; }
NOINLINE void second(long value) { third(value); STAYS; }

int main(int argc, char **argv)
{
    long amount = argc > 2 ? atol(argv[2]) : 1;
    if (strcmp(argv[1], "cpu") == 0) {
        outer(amount / 2);
        library_enter(leaf, amount);
        printf("%ld\n", used_ms());
        return 0;
    }
    for (long i = 0; i < amount; i++) {
        first(i);
        second(i);
    }
    library_enter(probed, 0);
    if (strcmp(argv[1], "wait") == 0) {
        puts("ready");
        fflush(stdout);
        pause();
    }
    return 0;
}
