/*
 * Hashes a file, block by block, with two threads: a program to try `tapster callgraph` on.
 *
 *     cc -O1 -g -fno-inline -pthread -o block_hasher examples/block_hasher.c
 *     head -c 4M /dev/urandom > data
 *     sudo tapster callgraph ./block_hasher -- ./block_hasher data
 *
 * Without `-fno-inline` the compiler makes functions of this size a part of their callers, and then there are no calls.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THREADS = 2, BLOCK = 1 << 20 };

struct device {
    int fd;
    size_t blocks;
    atomic_size_t next;
    _Atomic uint32_t sum;
};

static struct device *bdev_open(const char *path)
{
    struct device *device = calloc(1, sizeof *device);
    struct stat status;
    if (!device)
        return NULL;
    device->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (device->fd < 0 || fstat(device->fd, &status) < 0) {
        perror(path);
        free(device);
        return NULL;
    }
    device->blocks = ((size_t)status.st_size + BLOCK - 1) / BLOCK;
    return device;
}

static void bdev_close(struct device *device)
{
    close(device->fd);
    free(device);
}

/* FNV-1a. */
uint32_t hash_block(const unsigned char *block, size_t length)
{
    uint32_t hash = 2166136261u;
    for (size_t at = 0; at < length; at++)
        hash = (hash ^ block[at]) * 16777619u;
    return hash;
}

/* Takes one block after the other, until there are none. */
static void *thread_func(void *argument)
{
    struct device *device = argument;
    unsigned char *block = malloc(BLOCK);
    size_t number;
    if (!block)
        return NULL;
    while ((number = atomic_fetch_add(&device->next, 1)) < device->blocks) {
        ssize_t length = pread(device->fd, block, BLOCK, (off_t)number * BLOCK);
        if (length > 0)
            atomic_fetch_xor(&device->sum, hash_block(block, (size_t)length));
    }
    free(block);
    return NULL;
}

int main(int count, char **arguments)
{
    pthread_t threads[THREADS];
    struct device *device;
    int started = 0;
    if (count != 2) {
        fprintf(stderr, "usage: block_hasher FILE\n");
        return 2;
    }
    device = bdev_open(arguments[1]);
    if (!device)
        return 1;
    while (started < THREADS && !pthread_create(&threads[started], NULL, thread_func, device))
        started++;
    for (int thread = 0; thread < started; thread++)
        pthread_join(threads[thread], NULL);
    printf("%08x %s\n", (unsigned)device->sum, arguments[1]);
    bdev_close(device);
    return started == THREADS ? 0 : 1;
}
