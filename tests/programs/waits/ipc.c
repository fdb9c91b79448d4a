// Pipes, terminals, and what System V and POSIX have between processes.
#include "waits.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static char bytes[65536];
static int ends[2], others[2];

// Takes or gives all that goes without waiting.
static void drain(int file)
{
    fcntl(file, F_SETFL, O_NONBLOCK);
    while (read(file, bytes, sizeof bytes) > 0)
        ;
}

static void fill(int file)
{
    fcntl(file, F_SETFL, O_NONBLOCK);
    for (int size = sizeof bytes; size; size = size == 1 ? 0 : 1)
        while (write(file, bytes, size) > 0)
            ;
    fcntl(file, F_SETFL, 0);
}

static void write_one(int file)
{
    check(write(file, "x", 1), "write");
}

static void read_one(int file)
{
    char byte;
    check(read(file, &byte, 1), "read");
}

static void pipe_prepare(void)
{
    check(pipe(ends), "pipe");
    check(pipe(others), "pipe");
}

static void pipe_read_sleep(void)
{
    read_one(ends[0]);
}

static void pipe_read_wake(void)
{
    write_one(ends[1]);
}

static void pipe_write_before(void)
{
    fill(ends[1]);
}

static void pipe_write_sleep(void)
{
    write_one(ends[1]);
}

static void pipe_write_wake(void)
{
    drain(ends[0]);
}

static void splice_sleep(void)
{
    check(splice(ends[0], NULL, others[1], NULL, 1, 0), "splice");
}

static void splice_after(void)
{
    read_one(others[0]);
}

static void fifo_prepare(void)
{
    check(mkfifo(path_of("fifo"), 0600), "mkfifo");
}

static void fifo_sleep(void)
{
    ends[0] = check(open(path_of("fifo"), O_RDONLY), "open");
}

static void fifo_wake(void)
{
    close(check(open(path_of("fifo"), O_WRONLY), "open"));
}

static void fifo_after(void)
{
    close(ends[0]);
}

static void tty_prepare(void)
{
    ends[0] = check(posix_openpt(O_RDWR | O_NOCTTY), "posix_openpt");
    check(grantpt(ends[0]), "grantpt");
    check(unlockpt(ends[0]), "unlockpt");
    ends[1] = check(open(ptsname(ends[0]), O_RDWR | O_NOCTTY), "open");
    struct termios raw;
    check(tcgetattr(ends[1], &raw), "tcgetattr");
    cfmakeraw(&raw);
    check(tcsetattr(ends[1], TCSANOW, &raw), "tcsetattr");
}

static void tty_read_sleep(void)
{
    read_one(ends[1]);
}

static void tty_read_wake(void)
{
    write_one(ends[0]);
}

static int identity;

static void remove_semaphore(void)
{
    semctl(identity, 0, IPC_RMID);
}

static void semaphore_prepare(void)
{
    identity = semget(IPC_PRIVATE, 1, 0600);
    if (identity < 0)
        skip("this kernel has no semaphores of System V");
}

static void semaphore_add(int number)
{
    struct sembuf operation = {.sem_op = number};
    check(semop(identity, &operation, 1), "semop");
}

static void semaphore_sleep(void)
{
    semaphore_add(-1);
}

static void semaphore_wake(void)
{
    semaphore_add(1);
}

static struct {
    long type;
    char text[1024];
} message = {.type = 1};

static void remove_queue(void)
{
    msgctl(identity, IPC_RMID, NULL);
}

static void message_prepare(void)
{
    identity = msgget(IPC_PRIVATE, 0600);
    if (identity < 0)
        skip("this kernel has no message queues of System V");
}

static void message_receive(void)
{
    check(msgrcv(identity, &message, sizeof message.text, 0, 0), "msgrcv");
}

static void message_send(void)
{
    check(msgsnd(identity, &message, sizeof message.text, 0), "msgsnd");
}

static void message_fill(void)
{
    while (!msgsnd(identity, &message, sizeof message.text, IPC_NOWAIT))
        ;
}

static mqd_t queue;

static void queue_prepare(void)
{
    char name[64];
    snprintf(name, sizeof name, "/waits-%d", sleeper);
    struct mq_attr attributes = {.mq_maxmsg = 2, .mq_msgsize = 16};
    queue = mq_open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600, &attributes);
    if (queue < 0)
        skip("this kernel has no message queues of POSIX: %s", strerror(errno));
    mq_unlink(name);
}

static void queue_receive(void)
{
    char text[16];
    check(mq_receive(queue, text, sizeof text, NULL), "mq_receive");
}

static void queue_send(void)
{
    check(mq_send(queue, "x", 1, 0), "mq_send");
}

static void queue_fill(void)
{
    const struct timespec past = {};
    while (!mq_timedsend(queue, "x", 1, 0, &past))
        ;
}

const struct kind ipc_kinds[] = {
    {.name = "pipe_read",
     .reasons = "pipe_read",
     .prepare = pipe_prepare,
     .sleep = pipe_read_sleep,
     .wake = pipe_read_wake},
    {.name = "pipe_write",
     .reasons = "pipe_write",
     .prepare = pipe_prepare,
     .before = pipe_write_before,
     .sleep = pipe_write_sleep,
     .wake = pipe_write_wake},
    {.name = "splice",
     .reasons = "pipe_read splice",
     .prepare = pipe_prepare,
     .sleep = splice_sleep,
     .wake = pipe_read_wake,
     .after = splice_after},
    {.name = "fifo_open",
     .reasons = "fifo_open",
     .prepare = fifo_prepare,
     .sleep = fifo_sleep,
     .wake = fifo_wake,
     .after = fifo_after},
    {.name = "tty_read",
     .reasons = "tty",
     .prepare = tty_prepare,
     .sleep = tty_read_sleep,
     .wake = tty_read_wake},
    {.name = "sysv_semaphore",
     .reasons = "sysv_semaphore",
     .prepare = semaphore_prepare,
     .sleep = semaphore_sleep,
     .wake = semaphore_wake,
     .end = remove_semaphore},
    {.name = "sysv_receive",
     .reasons = "sysv_message",
     .prepare = message_prepare,
     .sleep = message_receive,
     .wake = message_send,
     .end = remove_queue},
    {.name = "sysv_send",
     .reasons = "sysv_message",
     .prepare = message_prepare,
     .before = message_fill,
     .sleep = message_send,
     .wake = message_receive,
     .end = remove_queue},
    {.name = "mq_receive",
     .reasons = "posix_message_queue",
     .prepare = queue_prepare,
     .sleep = queue_receive,
     .wake = queue_send},
    {.name = "mq_send",
     .reasons = "posix_message_queue",
     .prepare = queue_prepare,
     .before = queue_fill,
     .sleep = queue_send,
     .wake = queue_receive},
    {},
};
