// Probes of a program's own (USDT): values of every width and sign, at places where the compiler keeps them in registers,
// in memory, or nowhere at all. Built as a program, or as a library and a program that uses it (-DLIBRARY, -DCALLER).
// Prints a line `NAME NUMBER` for each thing that it counted.
#ifdef SEMAPHORES
#define _SDT_HAS_SEMAPHORES 1
#endif
#include <stdio.h>
#include <stdlib.h>
#include <sys/sdt.h>
#include <time.h>
#include <unistd.h>

#ifdef LONG_NOP
// What newer headers put at a probe: a `nop` of one byte, and one of five.
#undef _SDT_NOP
#define _SDT_NOP nop; .byte 0x0f; .byte 0x1f; .byte 0x44; .byte 0; .byte 0
#endif

#define OWN __attribute__((noinline, noclone))

long orders(long count, long ms);
void all_widths(void);

#ifndef CALLER

#ifdef SEMAPHORES
#define SEMAPHORE(name) unsigned short shop_##name##_semaphore __attribute__((section(".probes")))
SEMAPHORE(order__start);
SEMAPHORE(order__done);
SEMAPHORE(widths);
SEMAPHORE(element);
SEMAPHORE(fixed);
SEMAPHORE(step);
SEMAPHORE(real);
SEMAPHORE(round);
#endif

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static long listened;

OWN static void order(int id, const char *item, long price, long ms)
{
    // What a program has not looked at may not be in memory yet.
    (void)*(const volatile char *)item;
#ifdef SEMAPHORES
    listened += *(volatile unsigned short *)&shop_order__start_semaphore > 0;
#endif
    DTRACE_PROBE3(shop, order__start, id, item, price);
    usleep(ms * 1000);
    DTRACE_PROBE2(shop, order__done, id, (short)-id);
}

// How long all orders took together, nanoseconds.
long orders(long count, long ms)
{
    long begun = now();
    for (long id = 0; id < count; id++)
        order((int)id, id % 3 ? "bread" : "milk", id * 1000, ms);
    long took = now() - begun;
    printf("listened %ld\n", listened);
    return took;
}

OWN static void widths(signed char a, short b, int c, long d, unsigned char e, unsigned short f, unsigned g,
                       unsigned long h)
{
    DTRACE_PROBE8(shop, widths, a, b, c, d, e, f, g, h);
}

static int counter = 40;
volatile int rounds = 41;
short small[4] = {-1, 2, -3, 4};

OWN static void element(long *list, long index)
{
    DTRACE_PROBE2(shop, element, list[index], small[index]);
}

OWN static void fixed(void)
{
    counter++;
    DTRACE_PROBE3(shop, fixed, -7, 200U, counter);
}

// Nothing but a symbol says where this is.
OWN static void round_done(void)
{
    DTRACE_PROBE1(shop, round, rounds);
}

OWN static void step(int kind, long *memory, long value)
{
    switch (kind) {
    case 0:
        DTRACE_PROBE1(shop, step, value);
        break;
    case 1:
        DTRACE_PROBE1(shop, step, *memory);
        break;
    default:
        DTRACE_PROBE1(shop, step, 30L);
    }
}

OWN static void real(double number, int whole)
{
    DTRACE_PROBE2(shop, real, number, whole);
}

void all_widths(void)
{
    long list[4] = {11, -12, 13, -14}, memory = 20;
    widths(-1, -2, -3, -4, 255, 65535, 4294967295U, 18446744073709551615UL);
    for (int count = 0; count < 2; count++)
        widths(1, 2, 3, 4, 5, 6, 7, 8);
    for (long index = 0; index < 4; index++)
        element(list, index);
    fixed();
    fixed();
    for (int kind = 0; kind < 3; kind++)
        for (int count = 0; count <= kind; count++)
            step(kind, &memory, 10);
    real(1.5, 15);
    round_done();
    rounds = -42;
    round_done();
}

#endif
#ifndef LIBRARY

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 1, ms = argc > 2 ? atol(argv[2]) : 0;
    // Given a file, it waits until that is there, and works again and again until it is gone.
    const char *until = argc > 3 ? argv[3] : NULL;
    if (until) {
        while (access(until, F_OK))
            usleep(1000);
        long done = 0;
        while (!access(until, F_OK)) {
            orders(count, ms);
            done += count;
            usleep(10000);
        }
        printf("done %ld\n", done);
        return 0;
    }
    printf("orders %ld\n", orders(count, ms));
    all_widths();
    return 0;
}

#endif
