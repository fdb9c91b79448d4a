// Asks for its parent from a function of its own, COUNT times; says so, and ends, or sleeps until it is ended.
//
//   asker COUNT       COUNT calls of `getppid`, each from `main` → `ask`
//   asker COUNT wait  the same, then sleeps
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// So that programs of several names are several files with a build id each.
#ifndef WHO
#define WHO "asker"
#endif
const volatile char who[] = WHO;

// Without the C library, whose functions keep no frame pointer.
__attribute__((noinline, noclone)) void ask(void)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(110L) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = 173, result __asm__("x0");
    __asm__ volatile("svc 0" : "=r"(result) : "r"(number) : "memory");
#endif
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 1;
    // Long enough for others to see that it is there, on a machine that does much else.
    usleep(1000000);
    for (long i = 0; i < count; i++)
        ask();
    puts("ready");
    fflush(stdout);
    if (argc > 2)
        pause();
    return 0;
}
