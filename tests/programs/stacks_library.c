// Calls back through two functions of its own.
#define NOINLINE __attribute__((noinline, noclone))
#define STAYS __asm__ volatile("" ::: "memory")

NOINLINE void library_inner(void (*back)(long), long value) { back(value); STAYS; }
NOINLINE void library_enter(void (*back)(long), long value) { library_inner(back, value); STAYS; }
