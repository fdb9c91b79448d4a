// Sleeps that end by themselves.
#include "waits.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static int file;

static void nanosleep_sleep(void)
{
    pause_ns(length_ns);
}

static void clock_sleep(void)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += length_ns % 1000000000;
    until.tv_sec += length_ns / 1000000000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL))
        ;
}

static void poll_sleep(void)
{
    poll(NULL, 0, length_ns / 1000000);
}

static void select_sleep(void)
{
    struct timeval left = {length_ns / 1000000000, length_ns % 1000000000 / 1000};
    select(0, NULL, NULL, NULL, &left);
}

static void epoll_prepare(void)
{
    file = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
}

static void epoll_sleep(void)
{
    struct epoll_event event;
    check(epoll_wait(file, &event, 1, length_ns / 1000000), "epoll_wait");
}

static void timerfd_prepare(void)
{
    file = check(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create");
}

static void timerfd_before(void)
{
    struct itimerspec once = {.it_value = {length_ns / 1000000000, length_ns % 1000000000}};
    check(timerfd_settime(file, 0, &once, NULL), "timerfd_settime");
}

static void timerfd_sleep(void)
{
    unsigned long times;
    check(read(file, &times, sizeof times), "read");
}

const struct kind time_kinds[] = {
    {.name = "nanosleep", .reasons = "sleep", .sleep = nanosleep_sleep},
    {.name = "clock_nanosleep", .reasons = "sleep", .sleep = clock_sleep},
    {.name = "poll_timeout", .reasons = "poll", .sleep = poll_sleep},
    {.name = "select_timeout", .reasons = "select", .sleep = select_sleep},
    {.name = "epoll_timeout", .reasons = "epoll", .prepare = epoll_prepare, .sleep = epoll_sleep},
    {.name = "timerfd",
     .reasons = "timerfd",
     .prepare = timerfd_prepare,
     .before = timerfd_before,
     .sleep = timerfd_sleep},
    {},
};
