// Locks: of the program's own, of files, and of the kernel's.
#include "waits.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fault.h"

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    int ready;
    unsigned word;
} *lock;
static int file;

static void mutex_prepare_with(int protocol)
{
    lock = shared(sizeof *lock);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutex_init(&lock->mutex, &attributes);
    pthread_condattr_t shared_too;
    pthread_condattr_init(&shared_too);
    pthread_condattr_setpshared(&shared_too, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&lock->condition, &shared_too);
}

static void futex_prepare(void)
{
    mutex_prepare_with(PTHREAD_PRIO_NONE);
}

static void futex_pi_prepare(void)
{
    mutex_prepare_with(PTHREAD_PRIO_INHERIT);
}

static void mutex_lock(void)
{
    pthread_mutex_lock(&lock->mutex);
}

static void mutex_unlock(void)
{
    pthread_mutex_unlock(&lock->mutex);
}

static void condition_sleep(void)
{
    while (!lock->ready)
        pthread_cond_wait(&lock->condition, &lock->mutex);
    lock->ready = 0;
}

static void condition_wake(void)
{
    mutex_lock();
    lock->ready = 1;
    pthread_cond_signal(&lock->condition);
    mutex_unlock();
}

#ifdef SYS_futex_waitv
static void waitv_prepare(void)
{
    lock = shared(sizeof *lock);
    struct futex_waitv wait = {.val = 1, .uaddr = (unsigned long)&lock->word, .flags = FUTEX_32};
    // A word that is not 1 is refused at once, by a kernel that has the call.
    if (syscall(SYS_futex_waitv, &wait, 1, 0, NULL, CLOCK_MONOTONIC) < 0 && errno == ENOSYS)
        skip("this kernel has no futex_waitv, which came with 5.16");
}

static void waitv_sleep(void)
{
    struct futex_waitv wait = {.val = 0, .uaddr = (unsigned long)&lock->word, .flags = FUTEX_32};
    while (!__atomic_load_n(&lock->word, __ATOMIC_SEQ_CST))
        syscall(SYS_futex_waitv, &wait, 1, 0, NULL, CLOCK_MONOTONIC);
    __atomic_store_n(&lock->word, 0, __ATOMIC_SEQ_CST);
}

static void waitv_wake(void)
{
    __atomic_store_n(&lock->word, 1, __ATOMIC_SEQ_CST);
    check(syscall(SYS_futex, &lock->word, FUTEX_WAKE, 1, NULL, NULL, 0), "futex");
}
#endif

static void file_prepare(void)
{
    file = check(open(path_of("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open");
}

// A lock is of an open file, so the waker opens its own.
static void flock_arm(void)
{
    static int own = -1;
    if (own < 0)
        file = own = check(open(path_of("lock"), O_RDWR | O_CLOEXEC), "open");
    check(flock(file, LOCK_EX), "flock");
}

static void flock_sleep(void)
{
    check(flock(file, LOCK_EX), "flock");
}

static void flock_unlock(void)
{
    check(flock(file, LOCK_UN), "flock");
}

static void posix(int type)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};
    check(fcntl(file, F_SETLKW, &range), "fcntl");
}

static void posix_lock(void)
{
    posix(F_WRLCK);
}

static void posix_unlock(void)
{
    posix(F_UNLCK);
}

// The kernel's own locks are held as long as a helper of the waker copies from or to a page that nobody fills in.
static struct fault held;
static pthread_t holder;

static void *hold_by_read(void *unused)
{
    (void)unused;
    prctl(PR_SET_NAME, "waker");
    check(read(file, held.page, 1), "read");
    return NULL;
}

static void *hold_by_write(void *unused)
{
    (void)unused;
    prctl(PR_SET_NAME, "waker");
    check(pwrite(file, held.page, 1, 0), "pwrite");
    return NULL;
}

static void hold(void *(*by)(void *))
{
    if (!held.page)
        fault_prepare(&held);
    fault_before(&held);
    pthread_create(&holder, NULL, by, NULL);
    fault_wait(&held);
}

static void hold_prepare(void)
{
    fault_try();
    file_prepare();
    check(pwrite(file, "12345678", 8, 0), "pwrite");
}

static void position_arm(void)
{
    hold(hold_by_read);
}

static void inode_arm(void)
{
    hold(hold_by_write);
}

static void hold_wake(void)
{
    fault_answer(&held);
    pthread_join(holder, NULL);
}

// The position of an open file has a mutex, shared with the waker's.
static void position_sleep(void)
{
    check(lseek(file, 0, SEEK_SET), "lseek");
}

static void inode_sleep(void)
{
    check(pwrite(file, "x", 1, 4), "pwrite");
}

const struct kind lock_kinds[] = {
    {.name = "futex_mutex",
     .reasons = "futex",
     .prepare = futex_prepare,
     .arm = mutex_lock,
     .sleep = mutex_lock,
     .wake = mutex_unlock,
     .after = mutex_unlock},
    {.name = "futex_pi",
     .reasons = "futex",
     .prepare = futex_pi_prepare,
     .arm = mutex_lock,
     .sleep = mutex_lock,
     .wake = mutex_unlock,
     .after = mutex_unlock},
    {.name = "futex_condition",
     .reasons = "futex",
     .prepare = futex_prepare,
     .before = mutex_lock,
     .sleep = condition_sleep,
     .wake = condition_wake,
     .after = mutex_unlock},
#ifdef SYS_futex_waitv
    {.name = "futex_waitv",
     .reasons = "futex",
     .prepare = waitv_prepare,
     .sleep = waitv_sleep,
     .wake = waitv_wake},
#endif
    {.name = "flock",
     .reasons = "flock",
     .prepare = file_prepare,
     .arm = flock_arm,
     .sleep = flock_sleep,
     .wake = flock_unlock,
     .after = flock_unlock},
    {.name = "posix_lock",
     .reasons = "posix_lock",
     .prepare = file_prepare,
     .arm = posix_lock,
     .sleep = posix_lock,
     .wake = posix_unlock,
     .after = posix_unlock},
    {.name = "mutex",
     .reasons = "mutex file_position",
     .prepare = hold_prepare,
     .arm = position_arm,
     .sleep = position_sleep,
     .wake = hold_wake},
    {.name = "inode_lock",
     .reasons = "inode_lock rwsem",
     .prepare = hold_prepare,
     .arm = inode_arm,
     .sleep = inode_sleep,
     .wake = hold_wake},
    {},
};
