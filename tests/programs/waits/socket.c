// Sockets, on the loopback interface only.
#include "waits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static char bytes[65536];
static int listener, ends[2];
static struct sockaddr_in inet_address;
static struct sockaddr_un unix_address = {.sun_family = AF_UNIX};

static void read_one(int file)
{
    check(recv(file, bytes, 1, 0), "recv");
}

static void write_one(int file)
{
    check(send(file, "x", 1, 0), "send");
}

static void fill(int file)
{
    for (int size = sizeof bytes; size; size = size == 1 ? 0 : 1)
        while (send(file, bytes, size, MSG_DONTWAIT) > 0)
            ;
}

static void listen_inet(int type, int backlog)
{
    listener = check(socket(AF_INET, type | SOCK_CLOEXEC, 0), "socket");
    inet_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof inet_address;
    check(bind(listener, (void *)&inet_address, size), "bind");
    check(getsockname(listener, (void *)&inet_address, &size), "getsockname");
    if (type == SOCK_STREAM)
        check(listen(listener, backlog), "listen");
}

static int connect_inet(void)
{
    int file = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    check(connect(file, (void *)&inet_address, sizeof inet_address), "connect");
    return file;
}

static void accept_prepare(void)
{
    listen_inet(SOCK_STREAM, 8);
}

static void accept_sleep(void)
{
    ends[0] = check(accept(listener, NULL, NULL), "accept");
}

static void accept_wake(void)
{
    close(connect_inet());
}

static void accept_after(void)
{
    close(ends[0]);
}

static void tcp_prepare(void)
{
    accept_prepare();
    ends[1] = connect_inet();
    accept_sleep();
    // Two segments of the same size would be one, and a drain would not be the whole.
    int small = 16384;
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    setsockopt(ends[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
}

static void receive_sleep(void)
{
    read_one(ends[0]);
}

static void receive_wake(void)
{
    write_one(ends[1]);
}

static void send_before(void)
{
    // What was on its way when the buffer was full may leave room for more a little later.
    for (int quiet = 0; quiet < 3; quiet++) {
        fill(ends[1]);
        sched_yield();
    }
}

static void send_sleep(void)
{
    write_one(ends[1]);
}

static void send_wake(void)
{
    // The other side sends what waits as soon as there is room.
    for (int quiet = 0; quiet < 5; quiet++) {
        while (recv(ends[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
            quiet = 0;
        pause_ns(1000000);
    }
}

// The queue of the listener is full, so the kernel says nothing until the time is over that the caller gave it.
static void connect_prepare(void)
{
    listen_inet(SOCK_STREAM, 0);
    connect_inet();
}

static void connect_before(void)
{
    ends[0] = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    struct timeval limit = {length_ns / 1000000000, length_ns % 1000000000 / 1000};
    setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static void connect_sleep(void)
{
    if (!connect(ends[0], (void *)&inet_address, sizeof inet_address)) {
        errno = 0;
        fail("connect: the queue of the listener is not full");
    }
}

static void udp_prepare(void)
{
    listen_inet(SOCK_DGRAM, 0);
    ends[0] = listener;
    ends[1] = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
    check(connect(ends[1], (void *)&inet_address, sizeof inet_address), "connect");
}

static void unix_prepare(void)
{
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
}

static void datagram_prepare(void)
{
    check(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), "socketpair");
}

static void unix_listen(int backlog)
{
    strcpy(unix_address.sun_path, path_of("socket"));
    listener = check(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    check(bind(listener, (void *)&unix_address, sizeof unix_address), "bind");
    check(listen(listener, backlog), "listen");
}

static void unix_accept_prepare(void)
{
    unix_listen(8);
}

static int unix_connect(void)
{
    int file = check(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    check(connect(file, (void *)&unix_address, sizeof unix_address), "connect");
    return file;
}

static void unix_accept_wake(void)
{
    close(unix_connect());
}

static void unix_connect_prepare(void)
{
    unix_listen(0);
    // Room for one more than it says.
    unix_connect();
}

static void unix_connect_sleep(void)
{
    ends[0] = unix_connect();
}

static void unix_connect_wake(void)
{
    close(check(accept(listener, NULL, NULL), "accept"));
}

static void netlink_prepare(void)
{
    for (int end = 0; end < 2; end++) {
        ends[end] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK);
        if (ends[end] < 0)
            skip("this kernel has no netlink between programs");
        struct sockaddr_nl any = {.nl_family = AF_NETLINK};
        check(bind(ends[end], (void *)&any, sizeof any), "bind");
    }
    struct sockaddr_nl peer;
    socklen_t size = sizeof peer;
    check(getsockname(ends[0], (void *)&peer, &size), "getsockname");
    check(connect(ends[1], (void *)&peer, size), "connect");
}

const struct kind socket_kinds[] = {
    {.name = "tcp_receive",
     .reasons = "tcp_receive",
     .prepare = tcp_prepare,
     .sleep = receive_sleep,
     .wake = receive_wake},
    {.name = "tcp_send",
     .reasons = "tcp_send",
     .prepare = tcp_prepare,
     .before = send_before,
     .sleep = send_sleep,
     .wake = send_wake},
    {.name = "tcp_accept",
     .reasons = "tcp_accept",
     .prepare = accept_prepare,
     .sleep = accept_sleep,
     .wake = accept_wake,
     .after = accept_after},
    {.name = "tcp_connect",
     .reasons = "tcp_connect",
     .prepare = connect_prepare,
     .before = connect_before,
     .sleep = connect_sleep,
     .after = accept_after},
    {.name = "udp_receive",
     .reasons = "udp_receive",
     .prepare = udp_prepare,
     .sleep = receive_sleep,
     .wake = receive_wake},
    {.name = "unix_receive",
     .reasons = "unix_receive",
     .prepare = unix_prepare,
     .sleep = receive_sleep,
     .wake = receive_wake},
    {.name = "unix_send",
     .reasons = "unix_send",
     .prepare = unix_prepare,
     .before = send_before,
     .sleep = send_sleep,
     .wake = send_wake},
    {.name = "unix_dgram_recv",
     .reasons = "unix_receive",
     .prepare = datagram_prepare,
     .sleep = receive_sleep,
     .wake = receive_wake},
    {.name = "unix_dgram_send",
     .reasons = "unix_send",
     .prepare = datagram_prepare,
     .before = send_before,
     .sleep = send_sleep,
     .wake = send_wake},
    {.name = "unix_accept",
     .reasons = "unix_accept",
     .prepare = unix_accept_prepare,
     .sleep = accept_sleep,
     .wake = unix_accept_wake,
     .after = accept_after},
    {.name = "unix_connect",
     .reasons = "unix_connect unix_send",
     .prepare = unix_connect_prepare,
     .sleep = unix_connect_sleep,
     .wake = unix_connect_wake,
     .after = accept_after},
    {.name = "netlink_receive",
     .reasons = "netlink_receive",
     .prepare = netlink_prepare,
     .sleep = receive_sleep,
     .wake = receive_wake},
    {},
};
