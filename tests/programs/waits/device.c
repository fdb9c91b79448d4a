// Input and output on a slow device: in $WAITS_DIRECTORY a file system on one, $WAITS_DEVICE one by itself, which is
// only read, and $WAITS_SHALLOW one whose queue holds few requests, only read, too.
#include "waits.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 1024, CHUNK = 65536 };

static char buffer[CHUNK] __attribute__((aligned(PAGE)));
static const char *directory;
static char *mapping;
static int file;

static const char *variable(const char *name, const char *what)
{
    const char *value = getenv(name);
    if (!value || !*value)
        skip("there is no %s", what);
    return value;
}

static void directory_prepare(void)
{
    directory = variable("WAITS_DIRECTORY", "directory on a slow device");
}

static const char *inside(int number)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/waits-%d-%d", directory, sleeper, number);
    return path;
}

// A file whose pages are on the device and nowhere else.
static void file_prepare_with(int flags)
{
    directory_prepare();
    file = check(open(inside(0), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open");
    unlink(inside(0));
    for (int page = 0; page < PAGES; page += CHUNK / PAGE)
        check(pwrite(file, buffer, CHUNK, (off_t)page * PAGE), "pwrite");
    check(fsync(file), "fsync");
    check(fcntl(file, F_SETFL, flags), "fcntl");
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
}

static void file_prepare(void)
{
    file_prepare_with(0);
}

static void direct_prepare(void)
{
    file_prepare_with(O_DIRECT);
}

// Another page each time, and none beside one that was.
static off_t next(void)
{
    static int turns;
    return (off_t)(turns++ * 37 % PAGES) * PAGE;
}

static void read_sleep(void)
{
    check(pread(file, buffer, PAGE, next()), "pread");
}

static void write_sleep(void)
{
    check(pwrite(file, buffer, PAGE, next()), "pwrite");
}

// A part of a page that is not in memory, which is read first.
static void part_sleep(void)
{
    check(pwrite(file, buffer, 8, next()), "pwrite");
}

static void fsync_sleep(void)
{
    check(fsync(file), "fsync");
}

static void sync_sleep(void)
{
    check(syncfs(file), "syncfs");
}

// A new file has the journal to wait for.
static void create_before(void)
{
    static int files;
    file = check(open(inside(++files), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open");
    unlink(inside(files));
    write_sleep();
}

static void close_after(void)
{
    close(file);
}

static void fault_prepare_file(void)
{
    file_prepare();
    mapping = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, file, 0);
    if (mapping == MAP_FAILED)
        fail("mmap");
    check(madvise(mapping, PAGES * PAGE, MADV_RANDOM), "madvise");
}

static void fault_sleep(void)
{
    (void)*(volatile char *)(mapping + next());
}

static void throttle_prepare(void)
{
    directory_prepare();
    file = check(open(inside(0), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open");
    unlink(inside(0));
    // It has its blocks, or writes would wait for those who look for some, too.
    for (off_t at = 0; at < PAGES * PAGE * 4; at += CHUNK)
        check(pwrite(file, buffer, CHUNK, at), "pwrite");
    check(fsync(file), "fsync");
}

// More than may be dirty.
static void throttle_sleep(void)
{
    static off_t at;
    for (int chunks = 0; chunks < 8; chunks++) {
        check(pwrite(file, buffer, CHUNK, at), "pwrite");
        at = (at + CHUNK) % (PAGES * PAGE * 4);
    }
}

static void device_prepare_with(const char *path, int flags)
{
    file = check(open(path, O_RDONLY | O_CLOEXEC | flags), "open");
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
}

static void device_prepare(void)
{
    device_prepare_with(variable("WAITS_DEVICE", "slow device"), 0);
}

static void device_direct_prepare(void)
{
    device_prepare_with(variable("WAITS_DEVICE", "slow device"), O_DIRECT);
}

enum { REQUESTS = 16 };

static aio_context_t context;

static void shallow_prepare(void)
{
    device_prepare_with(variable("WAITS_SHALLOW", "device with a shallow queue"), O_DIRECT);
    if (syscall(SYS_io_setup, REQUESTS, &context) < 0)
        skip("this kernel has no asynchronous input and output: %s", strerror(errno));
}

static void shallow_sleep(void)
{
    static struct iocb requests[REQUESTS];
    struct iocb *list[REQUESTS];
    for (int number = 0; number < REQUESTS; number++) {
        requests[number] = (struct iocb){.aio_lio_opcode = IOCB_CMD_PREAD,
                                         .aio_fildes = file,
                                         .aio_buf = (unsigned long)buffer,
                                         .aio_nbytes = PAGE,
                                         .aio_offset = next()};
        list[number] = &requests[number];
    }
    if (check(syscall(SYS_io_submit, context, REQUESTS, list), "io_submit") != REQUESTS)
        fail("io_submit: not all");
}

// Without sleeping.
static void shallow_after(void)
{
    struct io_event events[REQUESTS];
    const struct timespec none = {};
    for (long done = 0; done < REQUESTS; sched_yield())
        done += check(syscall(SYS_io_getevents, context, 0, REQUESTS, events, &none), "io_getevents");
}

static void swap_prepare(void)
{
    char text[512] = "";
    int swaps = open("/proc/swaps", O_RDONLY | O_CLOEXEC);
    if (swaps < 0 || read(swaps, text, sizeof text - 1) <= 0 || !strstr(text, "/dev"))
        skip("there is no swap");
    close(swaps);
    mapping = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED)
        fail("mmap");
    madvise(mapping, PAGES * PAGE, MADV_NOHUGEPAGE);
    memset(mapping, 1, PAGES * PAGE);
    // No neighbours are read with a page.
    madvise(mapping, PAGES * PAGE, MADV_RANDOM);
    // Once for the writing, and again for what was still under way.
    for (int times = 0; times < 5; times++) {
        if (madvise(mapping, PAGES * PAGE, MADV_PAGEOUT))
            skip("this kernel does not page out on demand");
        pause_ns(200000000);
    }
}

const struct kind device_kinds[] = {
    {.name = "file_read", .reasons = "file_read", .prepare = file_prepare, .sleep = read_sleep, .most = 256},
    {.name = "file_write_part", .reasons = "file_write file_read", .prepare = file_prepare, .sleep = part_sleep, .most = 256},
    {.name = "direct_read", .reasons = "direct_io", .prepare = direct_prepare, .sleep = read_sleep},
    {.name = "direct_write", .reasons = "direct_io", .prepare = direct_prepare, .sleep = write_sleep},
    {.name = "device_read", .reasons = "file_read", .prepare = device_prepare, .sleep = read_sleep, .most = 256},
    {.name = "device_direct", .reasons = "direct_io", .prepare = device_direct_prepare, .sleep = read_sleep},
    {.name = "fsync",
     .reasons = "fsync journal",
     .prepare = file_prepare,
     .before = write_sleep,
     .sleep = fsync_sleep},
    {.name = "fsync_new",
     .reasons = "fsync journal",
     .prepare = directory_prepare,
     .before = create_before,
     .sleep = fsync_sleep,
     .after = close_after},
    {.name = "syncfs",
     .reasons = "fsync journal",
     .prepare = file_prepare,
     .before = write_sleep,
     .sleep = sync_sleep},
    {.name = "page_fault", .reasons = "page_fault", .prepare = fault_prepare_file, .sleep = fault_sleep, .most = 256},
    {.name = "write_throttle", .reasons = "write_throttle", .prepare = throttle_prepare, .sleep = throttle_sleep},
    {.name = "block_request",
     .reasons = "block_request",
     .prepare = shallow_prepare,
     .sleep = shallow_sleep,
     .after = shallow_after},
    {.name = "swap", .reasons = "swap page_fault", .prepare = swap_prepare, .sleep = fault_sleep, .most = 256},
    {},
};
