// Calls of a function that wait: as many threads as the argument says, each until it is given a byte of standard input.
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define OWN __attribute__((noinline, noclone))

OWN long hold(const char *kind, long number)
{
    char byte;
    long got = read(STDIN_FILENO, &byte, 1);
    __asm__ volatile("" : : "r"(kind) : "memory");
    return got + number;
}

static void *thread(void *argument)
{
    long number = (long)argument;
    // Probes read memory that is there; a text that nobody has read may still be on the disk.
    const volatile char *kind = number % 2 ? "odd" : "even";
    if (*kind)
        hold((const char *)kind, number);
    return NULL;
}

int main(int argc, char **argv)
{
    long threads = argc > 1 ? atol(argv[1]) : 1;
    for (long number = 0; number < threads; number++) {
        pthread_t created;
        if (pthread_create(&created, NULL, thread, (void *)number))
            return 1;
    }
    pthread_exit(NULL);
}
