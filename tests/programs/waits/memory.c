// Accesses to memory that wait.
#include "waits.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fault.h"

static int open_fault(void)
{
    return syscall(SYS_userfaultfd, O_CLOEXEC);
}

void fault_try(void)
{
    int file = open_fault();
    if (file < 0)
        skip("this kernel refuses userfaultfd");
    close(file);
}

void fault_prepare(struct fault *fault)
{
    fault->file = check(open_fault(), "userfaultfd");
    struct uffdio_api api = {.api = UFFD_API};
    check(ioctl(fault->file, UFFDIO_API, &api), "UFFDIO_API");
    fault->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register range = {.range = {(unsigned long)fault->page, 4096},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    check(ioctl(fault->file, UFFDIO_REGISTER, &range), "UFFDIO_REGISTER");
}

void fault_before(struct fault *fault)
{
    check(madvise(fault->page, 4096, MADV_DONTNEED), "madvise");
}

void fault_wait(struct fault *fault)
{
    struct uffd_msg message;
    check(read(fault->file, &message, sizeof message), "read");
}

void fault_answer(struct fault *fault)
{
    static char full[4096] __attribute__((aligned(4096)));
    struct uffdio_copy copy = {.dst = (unsigned long)fault->page, .src = (unsigned long)full, .len = 4096};
    check(ioctl(fault->file, UFFDIO_COPY, &copy), "UFFDIO_COPY");
}

static struct fault own;

// The waker answers for the sleeper's memory, through the file that it has from it.
static void userfault_prepare(void)
{
    fault_try();
    fault_prepare(&own);
}

static void userfault_before(void)
{
    fault_before(&own);
}

static void userfault_sleep(void)
{
    *(volatile char *)own.page = 1;
}

static void userfault_wake(void)
{
    fault_wait(&own);
    fault_answer(&own);
}

const struct kind memory_kinds[] = {
    {.name = "userfault",
     .reasons = "userfault",
     .prepare = userfault_prepare,
     .before = userfault_before,
     .sleep = userfault_sleep,
     .wake = userfault_wake},
    {},
};
