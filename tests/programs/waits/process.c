// Processes that wait for others, and those that are made to wait.
#include "waits.h"

#include <linux/membarrier.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stacks.h"

static pid_t child;

static void child_before(void)
{
    child = check(fork(), "fork");
    if (!child) {
        prctl(PR_SET_NAME, "waker");
        pause_ns(length_ns);
        _exit(0);
    }
}

static void wait_sleep(void)
{
    check(waitpid(child, NULL, 0), "waitpid");
}

static void waitid_sleep(void)
{
    siginfo_t info;
    check(waitid(P_PID, child, &info, WEXITED), "waitid");
}

static void vfork_sleep(void)
{
    child = check(vfork(), "vfork");
    if (!child) {
        prctl(PR_SET_NAME, "waker");
        pause_ns(length_ns);
        _exit(0);
    }
}

static void ignore(int number)
{
    (void)number;
}

static void blocked_prepare(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGUSR1, ignore);
}

static void signal_wake(void)
{
    check(kill(sleeper, SIGUSR1), "kill");
}

static void sigsuspend_sleep(void)
{
    sigset_t none;
    sigemptyset(&none);
    sigsuspend(&none);
}

static void sigwait_sleep(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    check(sigwaitinfo(&set, NULL), "sigwaitinfo");
}

static void pause_prepare(void)
{
    signal(SIGUSR1, ignore);
}

static void pause_sleep(void)
{
    pause();
}

// A signal that comes before the sleep wakes nobody, and the sleep has no end. Where processors are busy the sleeper may come
// later than the waker expects.
static void wait_for_state(char state)
{
    while (state_of(sleeper) != state)
        pause_ns(500000);
}

static void pause_wake(void)
{
    wait_for_state('S');
    signal_wake();
}

static void stop_sleep(void)
{
    kill(getpid(), SIGSTOP);
}

static void stop_wake(void)
{
    wait_for_state('T');
    check(kill(sleeper, SIGCONT), "kill");
}

static void traced_prepare(void)
{
    signal(SIGUSR1, ignore);
    // Where Yama asks for it.
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
}

static void traced_arm(void)
{
    static int seized;
    if (!seized)
        check(ptrace(PTRACE_SEIZE, sleeper, 0, 0), "ptrace");
    seized = 1;
}

static void traced_sleep(void)
{
    kill(getpid(), SIGUSR1);
}

static void traced_wake(void)
{
    int status;
    check(waitpid(sleeper, &status, __WALL), "waitpid");
    check(ptrace(PTRACE_CONT, sleeper, 0, 0), "ptrace");
}

static void rcu_prepare(void)
{
    long offered = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    if (offered < 0 || !(offered & MEMBARRIER_CMD_GLOBAL))
        skip("this kernel has no membarrier for all processes");
}

static void rcu_sleep(void)
{
    check(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0), "membarrier");
}

const struct kind process_kinds[] = {
    {.name = "wait4", .reasons = "wait_child", .before = child_before, .sleep = wait_sleep},
    {.name = "waitid", .reasons = "wait_child", .before = child_before, .sleep = waitid_sleep},
    {.name = "vfork", .reasons = "vfork", .sleep = vfork_sleep, .after = wait_sleep},
    {.name = "sigsuspend",
     .reasons = "signal_wait",
     .prepare = blocked_prepare,
     .sleep = sigsuspend_sleep,
     .wake = signal_wake},
    {.name = "sigwaitinfo",
     .reasons = "signal_wait",
     .prepare = blocked_prepare,
     .sleep = sigwait_sleep,
     .wake = signal_wake},
    {.name = "pause", .reasons = "signal_wait", .prepare = pause_prepare, .sleep = pause_sleep, .wake = pause_wake},
    {.name = "stopped", .reasons = "stopped", .sleep = stop_sleep, .wake = stop_wake},
    {.name = "traced",
     .reasons = "stopped",
     .prepare = traced_prepare,
     .arm = traced_arm,
     .sleep = traced_sleep,
     .wake = traced_wake},
    {.name = "rcu", .reasons = "rcu", .prepare = rcu_prepare, .sleep = rcu_sleep},
    {},
};
