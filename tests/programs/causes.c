// Causes of events, a known number of each: causes WHAT COUNT [ARGUMENT]
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static struct sockaddr_in local(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return to;
}

// Connects; to a port at which nobody listens each attempt fails.
static void connects(int count, int port)
{
    struct sockaddr_in to = local(port);
    for (int index = 0; index < count; index++) {
        int socket_fd = socket(AF_INET, SOCK_STREAM, 0);
        connect(socket_fd, (struct sockaddr *)&to, sizeof to);
        close(socket_fd);
    }
}

// Asks a server of names, and waits for each answer.
static void asks(int count, int port)
{
    struct sockaddr_in to = local(port);
    int socket_fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(socket_fd, (struct sockaddr *)&to, sizeof to))
        die("connect");
    for (int index = 0; index < count; index++) {
        unsigned char message[12] = {index, 1, 1, 0};
        if (send(socket_fd, message, sizeof message, 0) != sizeof message || recv(socket_fd, message, sizeof message, 0) != sizeof message)
            die("an answer");
    }
}

static void sends(int count, int port)
{
    struct sockaddr_in to = local(port);
    int socket_fd = socket(AF_INET, SOCK_DGRAM, 0);
    for (int index = 0; index < count; index++)
        if (sendto(socket_fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to) != 1)
            die("sendto");
}

static void naps(int count, int ms)
{
    struct timespec time = {.tv_nsec = ms * 1000000L};
    for (int index = 0; index < count; index++)
        syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &time, NULL);
}

static void waits(int count, int ms)
{
    struct timespec time = {.tv_nsec = ms * 1000000L};
    int word = 0;
    for (int index = 0; index < count; index++)
        if (syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &time, NULL, 0) != -1 || errno != ETIMEDOUT)
            die("futex");
}

static void opens(int count, const char *path)
{
    for (int index = 0; index < count; index++)
        close(syscall(SYS_openat, AT_FDCWD, path, O_RDONLY));
}

static void stats(int count, const char *path)
{
    struct statx about;
    for (int index = 0; index < count; index++)
        syscall(SYS_statx, AT_FDCWD, path, 0, STATX_BASIC_STATS, &about);
}

static void writes(int count, const char *path)
{
    static char bytes[3000];
    int file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
    if (file < 0)
        die(path);
    for (int index = 0; index < count; index++)
        if (pwrite(file, bytes, sizeof bytes, 0) != sizeof bytes || fdatasync(file) || pread(file, bytes, sizeof bytes, 1000) != 2000)
            die(path);
}

static void signals(int count)
{
    signal(SIGURG, SIG_IGN);
    for (int index = 0; index < count; index++) {
        kill(getpid(), SIGURG);
        if (syscall(SYS_tgkill, getpid(), gettid(), 99) != -1)
            die("tgkill");
    }
}

static void users(int count)
{
    for (int index = 0; index < count; index++)
        if (syscall(SYS_setresuid, 0, 0, 0))
            die("setresuid");
}

static void clocks(int count)
{
    struct timex time = {0};
    for (int index = 0; index < count; index++)
        if (syscall(SYS_clock_adjtime, CLOCK_REALTIME, &time) < 0)
            die("clock_adjtime");
}

static void exhausts(int count)
{
    struct rlimit none = {3, 3};
    setrlimit(RLIMIT_NOFILE, &none);
    for (int index = 0; index < count; index++)
        if (dup(0) != -1)
            die("dup");
}

static void *nothing(void *unused)
{
    return unused;
}

static void *something(void *unused)
{
    usleep(1);
    return unused;
}

static void threads(int count)
{
    for (int index = 0; index < count; index++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, index % 3 ? nothing : something, NULL) || pthread_join(thread, NULL))
            die("thread");
    }
    // So long that its files are seen while it runs.
    usleep(300000);
}

static void mallocs(int count)
{
    // Or the compiler leaves both calls out.
    void *volatile bytes;
    for (int index = 0; index < count; index++) {
        bytes = malloc(1234);
        free(bytes);
    }
}

static void ends(int count)
{
    for (int index = 0; index < count; index++) {
        if (!fork())
            _exit(77);
        if (!fork()) {
            raise(SIGKILL);
            pause();
        }
        while (wait(NULL) > 0)
            ;
    }
}

static void says(int count, const char *text)
{
    int log = open("/dev/kmsg", O_WRONLY);
    if (log < 0)
        die("/dev/kmsg");
    for (int index = 0; index < count; index++)
        if (write(log, text, strlen(text)) < 0)
            die("/dev/kmsg");
}

static void calls(int count)
{
    for (int index = 0; index < count; index++)
        syscall(SYS_getppid);
}

// Touches pages of a file that is not in memory, and says how many of them it had to wait for: since it began, and altogether.
static void faults(int count, const char *path)
{
    struct rusage before, after;
    int file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
    long page = sysconf(_SC_PAGESIZE);
    static volatile char sum;
    if (file < 0 || posix_fallocate(file, 0, count * page))
        die(path);
    char *bytes = malloc(page);
    memset(bytes, 1, page);
    for (int index = 0; index < count; index++)
        if (pwrite(file, bytes, page, index * page) != page)
            die(path);
    if (fsync(file) || posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED))
        die(path);
    char *map = mmap(NULL, count * page, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED || madvise(map, count * page, MADV_RANDOM))
        die("mmap");
    getrusage(RUSAGE_SELF, &before);
    for (int index = 0; index < count; index++)
        sum += map[index * page];
    getrusage(RUSAGE_SELF, &after);
    printf("%ld %ld\n", after.ru_majflt - before.ru_majflt, after.ru_majflt);
}

int main(int argc, char **argv)
{
    const char *what = argv[1], *argument = argc > 3 ? argv[3] : "0";
    int count = argc > 2 ? atoi(argv[2]) : 0;
    struct {
        const char *name;
        void (*of_number)(int, int);
        void (*of_text)(int, const char *);
        void (*plain)(int);
    } all[] = {
        {"connects", connects},
        {"asks", asks},
        {"sends", sends},
        {"naps", naps},
        {"waits", waits},
        {"opens", .of_text = opens},
        {"stats", .of_text = stats},
        {"writes", .of_text = writes},
        {"says", .of_text = says},
        {"faults", .of_text = faults},
        {"signals", .plain = signals},
        {"users", .plain = users},
        {"clocks", .plain = clocks},
        {"exhausts", .plain = exhausts},
        {"threads", .plain = threads},
        {"mallocs", .plain = mallocs},
        {"ends", .plain = ends},
        {"calls", .plain = calls},
    };
    for (unsigned index = 0; what && index < sizeof all / sizeof *all; index++) {
        if (strcmp(all[index].name, what))
            continue;
        if (all[index].of_number)
            all[index].of_number(count, atoi(argument));
        if (all[index].of_text)
            all[index].of_text(count, argument);
        if (all[index].plain)
            all[index].plain(count);
        return 0;
    }
    fputs("causes WHAT COUNT [ARGUMENT]\n", stderr);
    return 2;
}
