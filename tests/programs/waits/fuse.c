// A file system that the program answers for itself: FUSE, by its own protocol.
#include "waits.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

static int device;
static char place[256];

static void answer(const void *body, size_t size)
{
    char request[65536 + 4096];
    check(read(device, request, sizeof request), "read");
    struct fuse_out_header header = {.len = sizeof header + size, .unique = ((struct fuse_in_header *)request)->unique};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)body, size}};
    check(writev(device, parts, 2), "writev");
}

static void fuse_prepare(void)
{
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0)
        skip("/dev/fuse: %s", strerror(errno));
    strcpy(place, path_of("fuse"));
    check(mkdir(place, 0700), "mkdir");
    char options[128];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    if (mount("waits", place, "fuse.waits", MS_NOSUID | MS_NODEV, options))
        skip("mount: %s", strerror(errno));
    const struct fuse_init_out init = {
        .major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = 4096, .max_write = 4096};
    answer(&init, sizeof init);
}

static void fuse_sleep(void)
{
    struct statfs status;
    check(statfs(place, &status), "statfs");
}

static void fuse_wake(void)
{
    const struct fuse_statfs_out status = {.st = {.bsize = 4096, .namelen = 255}};
    answer(&status, sizeof status);
}

// With its waker gone nothing answers any more.
static void fuse_end(void)
{
    close(device);
    umount2(place, MNT_DETACH);
}

const struct kind fuse_kinds[] = {
    {.name = "fuse",
     .reasons = "fuse",
     .prepare = fuse_prepare,
     .sleep = fuse_sleep,
     .wake = fuse_wake,
     .end = fuse_end},
    {},
};
