#include "stacks.h"
#include "waits.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { DISTINCT = 64, TEXT = 1024 };

static struct {
    int used;
    struct {
        int times;
        char state;
        char functions[TEXT];
    } stacks[DISTINCT];
} *seen;
static pid_t sampler;

static int whole(const char *path, char *text, int size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC), length = 0, part;
    if (file < 0)
        return -1;
    while (length < size - 1 && (part = read(file, text + length, size - 1 - length)) > 0)
        length += part;
    close(file);
    text[length] = 0;
    return length;
}

// Lines `[<0>] function+0x1/0x2 [module]` as `"function","function"`.
static void names(const char *text, char *functions)
{
    int length = 0;
    for (const char *line = text; *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : "") {
        const char *begin = strstr(line, "] ");
        if (!begin)
            break;
        int size = strcspn(begin + 2, "+\n");
        if (length + size + 4 > TEXT)
            break;
        length += sprintf(functions + length, "%s\"%.*s\"", length ? "," : "", size, begin + 2);
    }
    functions[length] = 0;
}

char state_of(pid_t of)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", of);
    if (whole(path, text, sizeof text) <= 0)
        return 0;
    const char *end = strrchr(text, ')');
    return end && end[1] ? end[2] : 0;
}

static void look(pid_t of)
{
    char path[64], text[8192], functions[TEXT];
    char state = state_of(of);
    if (!state || state == 'R' || state == 'Z')
        return;
    snprintf(path, sizeof path, "/proc/%d/stack", of);
    // A stack that changes while it is read is nobody's.
    if (whole(path, text, sizeof text) <= 0 || state_of(of) != state)
        return;
    names(text, functions);
    if (!functions[0])
        return;
    int at = 0;
    while (at < seen->used && (seen->stacks[at].state != state || strcmp(seen->stacks[at].functions, functions)))
        at++;
    if (at == DISTINCT)
        return;
    if (at == seen->used) {
        strcpy(seen->stacks[at].functions, functions);
        seen->stacks[at].state = state;
        seen->used++;
    }
    seen->stacks[at].times++;
}

void stacks_begin(pid_t of)
{
    seen = shared(sizeof *seen);
    if ((sampler = check(fork(), "fork")))
        return;
    prctl(PR_SET_NAME, "sampler");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        pause_ns(3000000);
        look(of);
    }
}

void stacks_end(void)
{
    if (sampler > 0)
        kill(sampler, SIGKILL);
}

void stacks_print(void)
{
    printf(",\"stacks\":[");
    for (int printed = 0; printed < seen->used; printed++) {
        int most = 0;
        for (int at = 1; at < seen->used; at++)
            if (seen->stacks[at].times > seen->stacks[most].times)
                most = at;
        printf("%s{\"times\":%d,\"state\":\"%c\",\"functions\":[%s]}", printed ? "," : "", seen->stacks[most].times,
               seen->stacks[most].state, seen->stacks[most].functions);
        seen->stacks[most].times = 0;
    }
    printf("]");
}
