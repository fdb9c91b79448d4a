// What happens to connections and packets, in a network name space of its own, with lines on standard output of what this program
// saw itself, `NAME NUMBER…`, and of what the kernel counted in that name space, `kernel NAME NUMBER`.
//
// Packets are lost by filters of sockets: a segment that the receiver's filter refuses is as lost as one on a bad line.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// Below those that the kernel gives out.
enum { OPEN = 4241, CLOSED = 4242, FULL = 4243, DATAGRAMS = 4244, LOSSY = 4245, DEAF = 4246, NAMES = 53 };

static void must(int is_so, const char *what)
{
    if (!is_so) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void wait_ms(int ms)
{
    usleep(ms * 1000);
}

static void set(int socket, int level, int option, int value)
{
    must(!setsockopt(socket, level, option, &value, sizeof value), "setsockopt");
}

static struct sockaddr_in address(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int bound(int type, int port)
{
    int made = socket(AF_INET, type, 0);
    struct sockaddr_in to = address(port);
    set(made, SOL_SOCKET, SO_REUSEADDR, 1);
    must(!bind(made, (struct sockaddr *)&to, sizeof to), "bind");
    return made;
}

static int listener(int port, int backlog)
{
    int made = bound(SOCK_STREAM, port);
    must(!listen(made, backlog), "listen");
    return made;
}

// Waits for the answer to a connect that was begun; the error, 0 for none.
static int answer(int socket)
{
    struct pollfd writable = {.fd = socket, .events = POLLOUT};
    int error = 0;
    socklen_t size = sizeof error;
    must(poll(&writable, 1, 30000) == 1, "no answer");
    getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
}

static int begin(int socket, int port)
{
    struct sockaddr_in to = address(port);
    fcntl(socket, F_SETFL, O_NONBLOCK);
    int result = connect(socket, (struct sockaddr *)&to, sizeof to);
    fcntl(socket, F_SETFL, 0);
    return result ? errno : 0;
}

// A connection, by a call that waits; says how it ended and how long it took.
static int opened(int port)
{
    struct sockaddr_in to = address(port);
    int made = socket(AF_INET, SOCK_STREAM, 0);
    long begun = now();
    int error = connect(made, (struct sockaddr *)&to, sizeof to) ? errno : 0;
    printf("connect %d %ld\n", error, now() - begun);
    return made;
}

static int accepted(int listener)
{
    int made = accept(listener, NULL, NULL);
    must(made >= 0, "accept");
    return made;
}

// The counters of this name space: pairs of lines, of names and of numbers.
static void kernel(const char *file, const char *protocol, const char *name, long *value)
{
    char names[8192], numbers[8192];
    FILE *open = fopen(file, "r");
    must(open != NULL, file);
    while (fgets(names, sizeof names, open) && fgets(numbers, sizeof numbers, open)) {
        char *name_rest, *number_rest;
        char *key = strtok_r(names, " \n", &name_rest), *number = strtok_r(numbers, " \n", &number_rest);
        if (strcmp(key, protocol))
            continue;
        while ((key = strtok_r(NULL, " \n", &name_rest)) && (number = strtok_r(NULL, " \n", &number_rest)))
            if (!strcmp(key, name))
                *value = atol(number);
    }
    fclose(open);
}

static const char *const COUNTERS[][2] = {
    {"Tcp:", "ActiveOpens"},      {"Tcp:", "PassiveOpens"},      {"Tcp:", "AttemptFails"}, {"Tcp:", "RetransSegs"},
    {"Tcp:", "OutRsts"},          {"Udp:", "RcvbufErrors"},      {"Udp:", "NoPorts"},      {"TcpExt:", "ListenOverflows"},
    {"TcpExt:", "TCPSynRetrans"}, {"TcpExt:", "TCPTimeouts"},
};

// Says what the kernel counted since the name space was made.
static void account(void)
{
    for (size_t index = 0; index < sizeof COUNTERS / sizeof *COUNTERS; index++) {
        const char *const *counter = COUNTERS[index];
        long value = -1;
        kernel(strcmp(counter[0], "TcpExt:") ? "/proc/self/net/snmp" : "/proc/self/net/netstat", counter[0], counter[1], &value);
        printf("kernel %s %ld\n", counter[1], value);
    }
}

static void put(const char *path, const char *text)
{
    int file = open(path, O_WRONLY);
    must(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text), path);
    close(file);
}

static void connects(void)
{
    int ready = listener(OPEN, 16), full = listener(FULL, 0);
    for (int index = 0; index < 60; index++) {
        int made = opened(OPEN), other = accepted(ready);
        close(made);
        close(other);
    }
    for (int index = 0; index < 40; index++)
        close(opened(CLOSED));
    // One connection fits in. The next one's SYN is thrown away, and sent again after a second: by then there is room.
    int first = opened(FULL);
    int late = socket(AF_INET, SOCK_STREAM, 0);
    long begun = now();
    must(begin(late, FULL) == EINPROGRESS, "a full queue");
    wait_ms(500);
    int other = accepted(full);
    int error = answer(late);
    printf("connect %d %ld\n", error, now() - begun);
    int second = accepted(full);
    // Now one is there that nobody fetches, and nobody gets an answer: one gives up when the kernel does, others at once.
    int third = opened(FULL);
    int hopeless = socket(AF_INET, SOCK_STREAM, 0);
    set(hopeless, IPPROTO_TCP, TCP_SYNCNT, 1);
    begun = now();
    must(begin(hopeless, FULL) == EINPROGRESS, "a full queue");
    for (int index = 0; index < 7; index++) {
        int given_up = socket(AF_INET, SOCK_STREAM, 0);
        long begun = now();
        must(begin(given_up, FULL) == EINPROGRESS, "a full queue");
        wait_ms(20);
        close(given_up);
        printf("connect %d %ld\n", ECANCELED, now() - begun);
    }
    error = answer(hopeless);
    printf("connect %d %ld\n", error, now() - begun);
    // Of two ports none is free for a third connection.
    put("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001");
    int kept[2] = {opened(OPEN), opened(OPEN)};
    for (int index = 0; index < 3; index++)
        close(opened(OPEN));
    close(kept[0]), close(kept[1]), close(first), close(late), close(third), close(other), close(second), close(hopeless);
}

// Connections that one side ends by a reset, and what the other gets to know.
static void resets(void)
{
    int ready = listener(OPEN, 16);
    int reset = 0;
    for (int index = 0; index < 25; index++) {
        int made = opened(OPEN), other = accepted(ready);
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        char byte;
        setsockopt(made, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(made);
        reset += recv(other, &byte, 1, 0) < 0 && errno == ECONNRESET;
        close(other);
    }
    printf("reset %d\n", reset);
    for (int index = 0; index < 15; index++)
        close(opened(CLOSED));
}

// Datagrams for a socket that is full, and for none.
static void datagrams(void)
{
    int receiver = bound(SOCK_DGRAM, DATAGRAMS), sender = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = address(DATAGRAMS), nobody = address(CLOSED);
    char bytes[1000] = {0};
    set(receiver, SOL_SOCKET, SO_RCVBUF, 20000);
    int sent = 0, received = 0;
    for (int index = 0; index < 500; index++)
        sent += sendto(sender, bytes, sizeof bytes, 0, (struct sockaddr *)&to, sizeof to) == sizeof bytes;
    while (recv(receiver, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        received++;
    printf("datagrams %d %d\n", sent, received);
    int unwanted = 0;
    for (int index = 0; index < 45; index++)
        unwanted += sendto(sender, bytes, sizeof bytes, 0, (struct sockaddr *)&nobody, sizeof nobody) == sizeof bytes;
    printf("unwanted %d\n", unwanted);
}

// Lets nothing through, or SYNs only: the byte of flags is the 14th of the header.
static void attach_filter(int socket, int let_syn)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x02, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, let_syn ? 0xffff : 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    must(!setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), "a filter");
}

static void detach_filter(int socket)
{
    set(socket, SOL_SOCKET, SO_DETACH_FILTER, 0);
}

// `tcpi_bytes_retrans` of the kernel's own header; that of older C libraries ends before it.
static unsigned long long bytes_retrans(int socket)
{
    unsigned char info[512] = {0};
    socklen_t size = sizeof info;
    unsigned long long bytes;
    must(!getsockopt(socket, IPPROTO_TCP, TCP_INFO, info, &size) && size >= 216, "TCP_INFO");
    memcpy(&bytes, info + 208, sizeof bytes);
    return bytes;
}

// Sends to a receiver that gets nothing for a while; says what the connection's own account is, as `ss -ti` shows it.
static void lost(int writes, int bytes, int segment)
{
    int ready = bound(SOCK_STREAM, LOSSY);
    if (segment)
        set(ready, IPPROTO_TCP, TCP_MAXSEG, segment);
    must(!listen(ready, 4), "listen");
    int sender = opened(LOSSY), receiver = accepted(ready);
    char *data = calloc(1, bytes);
    set(sender, IPPROTO_TCP, TCP_NODELAY, 1);
    // A window for several segments first.
    must(send(sender, data, bytes, 0) == bytes && recv(receiver, data, bytes, MSG_WAITALL) == bytes, "send");
    attach_filter(receiver, 0);
    for (int index = 0; index < writes; index++)
        must(send(sender, data, bytes, 0) == bytes, "send");
    wait_ms(2000);
    detach_filter(receiver);
    for (int index = 0; index < writes; index++)
        must(recv(receiver, data, bytes, MSG_WAITALL) == bytes, "recv");
    wait_ms(300);
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    must(!getsockopt(sender, IPPROTO_TCP, TCP_INFO, &info, &size), "TCP_INFO");
    printf("lost %u %llu\n", info.tcpi_total_retrans, bytes_retrans(sender));
    close(sender), close(receiver), close(ready);
    free(data);
}

// A listener that does not hear that its answer arrived, and so says it again.
static void unheard(void)
{
    int ready = listener(DEAF, 4);
    attach_filter(ready, 1);
    int made = opened(DEAF);
    wait_ms(3500);
    detach_filter(ready);
    char byte = 0;
    must(send(made, &byte, 1, 0) == 1, "send");
    int other = accepted(ready);
    close(made), close(other), close(ready);
}

// Bytes that are confirmed late, because the receiver has nothing to say: says the round trip time, in microseconds, that the
// connection reckoned with before each confirmation.
static void round_trips(void)
{
    int ready = listener(OPEN, 4), sender = opened(OPEN), receiver = accepted(ready);
    char byte = 0;
    set(sender, IPPROTO_TCP, TCP_NODELAY, 1);
    for (int index = 0; index < 25; index++) {
        struct tcp_info info;
        socklen_t size = sizeof info;
        set(receiver, IPPROTO_TCP, TCP_QUICKACK, 0);
        must(!getsockopt(sender, IPPROTO_TCP, TCP_INFO, &info, &size), "TCP_INFO");
        printf("rtt %u\n", info.tcpi_rtt);
        must(send(sender, &byte, 1, 0) == 1 && recv(receiver, &byte, 1, 0) == 1, "send");
        do {
            wait_ms(1);
            size = sizeof info;
            must(!getsockopt(sender, IPPROTO_TCP, TCP_INFO, &info, &size), "TCP_INFO");
        } while (info.tcpi_unacked);
    }
    close(sender), close(receiver), close(ready);
}

// A socket of either family for datagrams, and the address of a port of this host.
static int datagram_socket(int family, int port, struct sockaddr_storage *to, socklen_t *size)
{
    memset(to, 0, sizeof *to);
    if (family == AF_INET) {
        *(struct sockaddr_in *)to = address(port);
        *size = sizeof(struct sockaddr_in);
    } else {
        struct sockaddr_in6 *other = (struct sockaddr_in6 *)to;
        other->sin6_family = AF_INET6;
        other->sin6_port = htons(port);
        other->sin6_addr = in6addr_loopback;
        *size = sizeof *other;
    }
    int made = socket(family, SOCK_DGRAM, 0);
    must(made >= 0, "a socket");
    return made;
}

// Questions to a name server that takes 20 ms, and does not hear the first of two questions; says the result and how long it took.
static void names(void)
{
    for (int family = 0; family < 2; family++) {
        struct sockaddr_storage to;
        socklen_t size;
        int kind = family ? AF_INET6 : AF_INET;
        int server = datagram_socket(kind, NAMES, &to, &size), client = datagram_socket(kind, NAMES, &to, &size);
        must(!bind(server, (struct sockaddr *)&to, size), "bind");
        must(!connect(client, (struct sockaddr *)&to, size), "connect");
        for (int index = 0; index < 30; index++) {
            // A message begins with an id, flags and four counts; the last four bits of the flags are the result.
            unsigned char message[40] = {index, 77, 1, 0, 0, 1};
            int result = index % 3 == 2 ? 3 : index % 3 == 1 ? 2 : 0, is_repeated = index % 10 == 9;
            long begun = now();
            for (int asked = 0; asked <= is_repeated; asked++) {
                struct sockaddr_storage from;
                socklen_t from_size = sizeof from;
                must(send(client, message, sizeof message, 0) == sizeof message, "a question");
                must(recvfrom(server, message, sizeof message, 0, (struct sockaddr *)&from, &from_size) == sizeof message, "a question");
                wait_ms(20);
                if (asked < is_repeated)
                    continue;
                message[2] |= 0x80, message[3] = result;
                must(sendto(server, message, sizeof message, 0, (struct sockaddr *)&from, from_size) == sizeof message, "an answer");
            }
            must(recv(client, message, sizeof message, 0) == sizeof message, "an answer");
            printf("answer %d %d %ld\n", family, result, now() - begun);
        }
        close(server), close(client);
    }
}

// Datagrams through a queue that lets a megabyte a second pass; says how many there were, and the time of all from sending to
// receiving.
static void queued(void)
{
    enum { COUNT = 60, BYTES = 1000 };
    must(!system("exec tc qdisc add dev lo root tbf rate 8mbit burst 4000 limit 1000000"), "tc");
    int receiver = bound(SOCK_DGRAM, DATAGRAMS), sender = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = address(DATAGRAMS);
    char bytes[BYTES] = {0};
    long sent = 0, received = 0;
    set(receiver, SOL_SOCKET, SO_RCVBUF, 1 << 20);
    for (int index = 0; index < COUNT; index++) {
        sent += now();
        must(sendto(sender, bytes, BYTES, 0, (struct sockaddr *)&to, sizeof to) == BYTES, "send");
    }
    for (int index = 0; index < COUNT; index++) {
        must(recv(receiver, bytes, BYTES, 0) == BYTES, "recv");
        received += now();
    }
    printf("queued %d %ld\n", COUNT, received - sent);
    must(!system("exec tc qdisc del dev lo root"), "tc");
}

int main(int count, char **words)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    // What it does is its own, unless it is told to do it where it is.
    if (count < 3 || strcmp(words[2], "here"))
        must(!unshare(CLONE_NEWNET), "a network name space");
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int any = socket(AF_INET, SOCK_DGRAM, 0);
    must(!ioctl(any, SIOCSIFFLAGS, &loopback), "lo");
    close(any);
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "connects"))
        connects();
    else if (!strcmp(what, "resets"))
        resets();
    else if (!strcmp(what, "datagrams"))
        datagrams();
    else if (!strcmp(what, "lost"))
        lost(5, 1000, 0);
    else if (!strcmp(what, "lost-large"))
        lost(2, 40000, 1000);
    else if (!strcmp(what, "round-trips"))
        round_trips();
    else if (!strcmp(what, "unheard"))
        unheard();
    else if (!strcmp(what, "names"))
        names();
    else if (!strcmp(what, "queued"))
        queued();
    else
        return 2;
    account();
}
