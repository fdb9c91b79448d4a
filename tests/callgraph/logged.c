/* A program that keeps its own log of the calls of its functions `t_…`: the thread, `+` or `-`, the depth, the function,
   the first argument or the result, and CLOCK_MONOTONIC. Written at the end, so that writing takes no time between.

   logged LOG THREADS CALLS STATUS */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct entry { char mark; int depth; const char *function; unsigned long value; long time; };
struct log { int tid; size_t count, room; int depth; struct entry *entries; };

int t_data = 7; /* not a function */
static __thread struct log *own;
static struct log *logs[64];
static int calls;

static long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }
static void begin_log(int index) {
    own = logs[index] = calloc(1, sizeof *own);
    own->tid = gettid();
    own->room = 16 * (size_t)calls + 100000;
    own->entries = calloc(own->room, sizeof *own->entries);
}
static void note(char mark, int depth, const char *function, unsigned long value) {
    if (own->count == own->room) abort();
    own->entries[own->count++] = (struct entry){mark, depth, function, value, now()};
}
#define ENTER(value) note('+', own->depth++, __func__, (unsigned long)(value))
#define LEAVE(value) do { unsigned long result = (unsigned long)(value); note('-', --own->depth, __func__, result); return result; } while (0)

#define TRACED __attribute__((noinline, noclone)) unsigned long
TRACED t_inner(unsigned long x) { ENTER(x); LEAVE(x * 3); }
TRACED t_work(unsigned long x) { ENTER(x); unsigned long a = t_inner(x); LEAVE(a + 1); }
TRACED t_recursive(unsigned long n) { ENTER(n); unsigned long below = n > 1 ? t_recursive(n - 1) : 0; LEAVE(below + n); }
TRACED t_sleeps(unsigned long us) { ENTER(us); usleep(us); LEAVE(0); }
TRACED t_thread(unsigned long index) {
    ENTER(index);
    t_recursive(50);
    for (int i = 0; i < 5; i++) t_sleeps(20000);
    for (int i = 0; i < calls / 2; i++) t_work(index * 1000000 + i);
    LEAVE(index);
}

static void *start(void *index) { begin_log((long)index); t_thread((long)index); return 0; }

int main(int argc, char **argv) {
    int threads = atoi(argv[2]);
    calls = atoi(argv[3]);
    pthread_t ids[64];
    for (long i = 0; i < threads; i++) pthread_create(&ids[i], 0, start, (void *)i);
    for (long i = 0; i < threads; i++) pthread_join(ids[i], 0);
    FILE *out = fopen(argv[1], "w");
    for (int i = 0; i < threads; i++)
        for (size_t j = 0; j < logs[i]->count; j++) {
            struct entry *e = &logs[i]->entries[j];
            fprintf(out, "%d %c %d %s %#lx %ld\n", logs[i]->tid, e->mark, e->depth, e->function, e->value, e->time);
        }
    fclose(out);
    return atoi(argv[4]);
}
