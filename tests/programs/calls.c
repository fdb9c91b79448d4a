// Functions that are called a known number of times, with known results, and that take a time which the program
// measures by itself: one line for each on standard output.
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OWN __attribute__((noinline, noclone))

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void nap(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time))
        ;
}

OWN long quick(long number, const char *text)
{
    __asm__ volatile("" ::: "memory");
    return number * 2 + text[0];
}

OWN int sleeper(int ms)
{
    nap(ms);
    return -ms;
}

OWN long deeper(int left)
{
    if (left == 0) {
        nap(5);
        return 0;
    }
    long below = deeper(left - 1);
    __asm__ volatile("" ::: "memory");
    return below + 1;
}

static jmp_buf out;

OWN int jumper(int jump)
{
    if (jump) {
        nap(40);
        longjmp(out, 1);
    }
    __asm__ volatile("" ::: "memory");
    return 7;
}

static void *work(void *text)
{
    long sum = 0;
    for (long number = 0; number < 10000; number++)
        sum += quick(number, text);
    return (void *)sum;
}

int main(void)
{
    pthread_t threads[8];
    char texts[2][8] = {"even", "odd"};
    for (long index = 0; index < 8; index++)
        pthread_create(&threads[index], NULL, work, texts[index % 2]);
    long sum = 0;
    for (int index = 0; index < 8; index++) {
        void *result;
        pthread_join(threads[index], &result);
        sum += (long)result;
    }
    printf("quick %ld\n", sum);
    for (int ms = 1; ms <= 32; ms *= 2) {
        long begun = now();
        sleeper(ms);
        printf("sleeper %ld\n", now() - begun);
    }
    long begun = now();
    deeper(100);
    printf("deeper %ld\n", now() - begun);
    if (setjmp(out) == 0)
        jumper(1);
    begun = now();
    jumper(0);
    printf("jumper %ld\n", now() - begun);
    return 0;
}
