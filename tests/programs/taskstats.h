// What the kernel accounts of this thread's delays, asked of it by netlink (taskstats). It needs CAP_NET_ADMIN, and
// kernel.task_delayacct=1 from before the thread began, except on kernels before 5.14, where it is always on.
#ifndef TASKSTATS_H
#define TASKSTATS_H

#include <linux/genetlink.h>
#include <linux/taskstats.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct delays {
    double cpu, block; // Seconds: runnable without a processor, and waiting for block devices.
};

struct taskstats_message {
    struct nlmsghdr header;
    struct genlmsghdr generic;
    char attributes[1024];
};

// Sends a request with one attribute and takes the answer.
static inline bool taskstats_ask(int socket, int family, int command, int attribute, const void *value, int size,
                                 struct taskstats_message *message)
{
    memset(message, 0, sizeof *message);
    struct nlattr *first = (void *)message->attributes;
    *first = (struct nlattr){.nla_len = NLA_HDRLEN + size, .nla_type = attribute};
    memcpy(message->attributes + NLA_HDRLEN, value, size);
    message->header.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN) + NLA_ALIGN(first->nla_len);
    message->header.nlmsg_type = family;
    message->header.nlmsg_flags = NLM_F_REQUEST;
    message->generic = (struct genlmsghdr){.cmd = command, .version = 1};
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    return sendto(socket, message, message->header.nlmsg_len, 0, (void *)&kernel, sizeof kernel) > 0 &&
           recv(socket, message, sizeof *message, 0) > 0 && message->header.nlmsg_type != NLMSG_ERROR;
}

// The content of an attribute in a list of this many bytes.
static inline void *taskstats_find(void *list, int size, int type)
{
    for (char *at = list; size >= (int)NLA_HDRLEN;) {
        struct nlattr *one = (void *)at;
        if (one->nla_len < NLA_HDRLEN)
            return NULL;
        if (one->nla_type == type)
            return at + NLA_HDRLEN;
        at += NLA_ALIGN(one->nla_len);
        size -= NLA_ALIGN(one->nla_len);
    }
    return NULL;
}

struct taskstats_socket {
    int socket, family;
};

// A family of 0 if the kernel has no such statistics or does not give them to this process.
static inline struct taskstats_socket taskstats_open(void)
{
    struct taskstats_socket source = {socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC), 0};
    struct taskstats_message message;
    if (source.socket >= 0 && taskstats_ask(source.socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME,
                                            TASKSTATS_GENL_NAME, sizeof TASKSTATS_GENL_NAME, &message)) {
        unsigned short *family = taskstats_find(message.attributes, sizeof message.attributes, CTRL_ATTR_FAMILY_ID);
        source.family = family ? *family : 0;
    }
    return source;
}

// Whether the kernel said them.
static inline bool taskstats_read(struct taskstats_socket source, struct delays *delays)
{
    unsigned thread = syscall(SYS_gettid);
    struct taskstats_message message;
    if (!source.family || !taskstats_ask(source.socket, source.family, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_PID, &thread,
                                         sizeof thread, &message))
        return false;
    char *both = taskstats_find(message.attributes, sizeof message.attributes, TASKSTATS_TYPE_AGGR_PID);
    int size = both ? message.attributes + sizeof message.attributes - both : 0;
    void *found = both ? taskstats_find(both, size, TASKSTATS_TYPE_STATS) : NULL;
    if (!found)
        return false;
    struct taskstats stats;
    memcpy(&stats, found, sizeof stats);
    *delays = (struct delays){stats.cpu_delay_total / 1e9, stats.blkio_delay_total / 1e9};
    return true;
}

#endif
