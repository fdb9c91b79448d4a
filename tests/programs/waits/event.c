// Waits for one of several things, and files that are events.
#include "waits.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int ends[2], file;

static void pipe_prepare(void)
{
    check(pipe(ends), "pipe");
}

static void pipe_wake(void)
{
    check(write(ends[1], "x", 1), "write");
}

static void pipe_after(void)
{
    char byte;
    check(read(ends[0], &byte, 1), "read");
}

static void poll_sleep(void)
{
    struct pollfd one = {.fd = ends[0], .events = POLLIN};
    check(poll(&one, 1, -1), "poll");
}

static void select_sleep(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    check(select(ends[0] + 1, &set, NULL, NULL, NULL), "select");
}

static void epoll_prepare(void)
{
    pipe_prepare();
    file = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    struct epoll_event event = {.events = EPOLLIN};
    check(epoll_ctl(file, EPOLL_CTL_ADD, ends[0], &event), "epoll_ctl");
}

static void epoll_sleep(void)
{
    struct epoll_event event;
    check(epoll_wait(file, &event, 1, -1), "epoll_wait");
}

static void eventfd_prepare(void)
{
    file = check(eventfd(0, EFD_CLOEXEC), "eventfd");
}

static void eventfd_sleep(void)
{
    eventfd_t number;
    check(eventfd_read(file, &number), "eventfd_read");
}

static void eventfd_wake(void)
{
    check(eventfd_write(file, 1), "eventfd_write");
}

static void signalfd_prepare(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    file = check(signalfd(-1, &set, SFD_CLOEXEC), "signalfd");
}

static void signalfd_sleep(void)
{
    struct signalfd_siginfo info;
    check(read(file, &info, sizeof info), "read");
}

static void signalfd_wake(void)
{
    check(kill(sleeper, SIGUSR1), "kill");
}

static void inotify_prepare(void)
{
    file = inotify_init1(IN_CLOEXEC);
    if (file < 0)
        skip("inotify: %s", strerror(errno));
    close(check(open(path_of("watched"), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open"));
    check(inotify_add_watch(file, path_of("watched"), IN_MODIFY), "inotify_add_watch");
}

static void notify_sleep(void)
{
    char events[4096];
    check(read(file, events, sizeof events), "read");
}

static void notify_wake(void)
{
    int watched = check(open(path_of("watched"), O_RDWR | O_CLOEXEC), "open");
    check(write(watched, "x", 1), "write");
    close(watched);
}

static void fanotify_prepare(void)
{
    file = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY);
    if (file < 0)
        skip("fanotify: %s", strerror(errno));
    close(check(open(path_of("watched"), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open"));
    check(fanotify_mark(file, FAN_MARK_ADD, FAN_MODIFY, AT_FDCWD, path_of("watched")), "fanotify_mark");
}

// Each event brings an open file.
static void fanotify_sleep(void)
{
    struct fanotify_event_metadata event;
    check(read(file, &event, sizeof event), "read");
    close(event.fd);
}

static struct {
    unsigned *head, *tail, *mask, *array, *done_head, *done_tail;
    struct io_uring_sqe *entries;
} ring;

static void ring_prepare(void)
{
    struct io_uring_params set = {};
    file = syscall(SYS_io_uring_setup, 4, &set);
    if (file < 0)
        skip("io_uring: %s", strerror(errno));
    const int both = PROT_READ | PROT_WRITE;
    char *submit = mmap(NULL, set.sq_off.array + set.sq_entries * sizeof(unsigned), both, MAP_SHARED | MAP_POPULATE,
                        file, IORING_OFF_SQ_RING);
    char *done = mmap(NULL, set.cq_off.cqes + set.cq_entries * sizeof(struct io_uring_cqe), both,
                      MAP_SHARED | MAP_POPULATE, file, IORING_OFF_CQ_RING);
    ring.entries = mmap(NULL, set.sq_entries * sizeof *ring.entries, both, MAP_SHARED | MAP_POPULATE, file,
                        IORING_OFF_SQES);
    if (submit == MAP_FAILED || done == MAP_FAILED || ring.entries == MAP_FAILED)
        fail("mmap");
    ring.tail = (unsigned *)(submit + set.sq_off.tail);
    ring.mask = (unsigned *)(submit + set.sq_off.ring_mask);
    ring.array = (unsigned *)(submit + set.sq_off.array);
    ring.done_head = (unsigned *)(done + set.cq_off.head);
    ring.done_tail = (unsigned *)(done + set.cq_off.tail);
}

// A timeout of the ring's own, waited for.
static void ring_sleep(void)
{
    struct __kernel_timespec length = {length_ns / 1000000000, length_ns % 1000000000};
    unsigned tail = *ring.tail, index = tail & *ring.mask;
    ring.entries[index] = (struct io_uring_sqe){
        .opcode = IORING_OP_TIMEOUT, .fd = -1, .addr = (unsigned long)&length, .len = 1};
    ring.array[index] = index;
    __atomic_store_n(ring.tail, tail + 1, __ATOMIC_RELEASE);
    check(syscall(SYS_io_uring_enter, file, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0), "io_uring_enter");
    __atomic_store_n(ring.done_head, __atomic_load_n(ring.done_tail, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
}

static aio_context_t context;

static void aio_prepare(void)
{
    pipe_prepare();
    if (syscall(SYS_io_setup, 4, &context) < 0)
        skip("this kernel has no asynchronous input and output: %s", strerror(errno));
}

static void aio_before(void)
{
    static struct iocb request;
    request = (struct iocb){.aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = ends[0], .aio_buf = POLLIN};
    struct iocb *requests[] = {&request};
    check(syscall(SYS_io_submit, context, 1, requests), "io_submit");
}

static void aio_sleep(void)
{
    struct io_event event;
    check(syscall(SYS_io_getevents, context, 1, 1, &event, NULL), "io_getevents");
}

const struct kind event_kinds[] = {
    {.name = "poll",
     .reasons = "poll",
     .prepare = pipe_prepare,
     .sleep = poll_sleep,
     .wake = pipe_wake,
     .after = pipe_after},
    {.name = "select",
     .reasons = "select",
     .prepare = pipe_prepare,
     .sleep = select_sleep,
     .wake = pipe_wake,
     .after = pipe_after},
    {.name = "epoll",
     .reasons = "epoll",
     .prepare = epoll_prepare,
     .sleep = epoll_sleep,
     .wake = pipe_wake,
     .after = pipe_after},
    {.name = "eventfd",
     .reasons = "eventfd",
     .prepare = eventfd_prepare,
     .sleep = eventfd_sleep,
     .wake = eventfd_wake},
    {.name = "signalfd",
     .reasons = "signalfd",
     .prepare = signalfd_prepare,
     .sleep = signalfd_sleep,
     .wake = signalfd_wake},
    {.name = "inotify",
     .reasons = "inotify",
     .prepare = inotify_prepare,
     .sleep = notify_sleep,
     .wake = notify_wake},
    {.name = "fanotify",
     .reasons = "fanotify inotify",
     .prepare = fanotify_prepare,
     .sleep = fanotify_sleep,
     .wake = notify_wake},
    {.name = "io_uring", .reasons = "io_uring", .prepare = ring_prepare, .sleep = ring_sleep},
    {.name = "aio",
     .reasons = "aio",
     .prepare = aio_prepare,
     .before = aio_before,
     .sleep = aio_sleep,
     .wake = pipe_wake,
     .after = pipe_after},
    {},
};
