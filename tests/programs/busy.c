// Burns processor time by its own clock, and touches a known number of pages.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

int main(int argc, char **argv)
{
    long pages = atol(argv[1]), ms = atol(argv[2]);
    (void)argc;
    char *memory = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    // Else the kernel may give many at once.
    madvise(memory, pages * 4096, MADV_NOHUGEPAGE);
    for (long page = 0; page < pages; page++)
        memory[page * 4096] = 1;
    struct timespec time;
    do
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    while (time.tv_sec * 1000 + time.tv_nsec / 1000000 < ms);
    printf("%ld\n", time.tv_sec * 1000000000L + time.tv_nsec);
    return 0;
}
