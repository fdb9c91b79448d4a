/* Ways out of a function other than its return, and processes. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define TRACED __attribute__((noinline, noclone))
static jmp_buf env;
static volatile int seen;

TRACED int t_leaf(int x) { seen += x; return x + 1; }
TRACED int t_tail(int x) { return t_leaf(x * 2); }
TRACED int t_tail_pointer(int (*f)(int), int x) { return f(x); }
TRACED int t_tail_out(int x) { return putchar(x); }
TRACED void t_deep(int n) { if (n == 0) longjmp(env, 1); t_deep(n - 1); seen++; }
TRACED int t_jumper(void) { if (!setjmp(env)) t_deep(3); return t_leaf(7); }
TRACED void t_empty(void) { __asm__ volatile(""); }

static ucontext_t here, other;
static char stack[1 << 16];
TRACED void t_on_other_stack(void) { t_leaf(40); swapcontext(&other, &here); t_leaf(41); swapcontext(&other, &here); }
TRACED int t_switches(void) {
    getcontext(&other);
    other.uc_stack.ss_sp = stack;
    other.uc_stack.ss_size = sizeof stack;
    makecontext(&other, t_on_other_stack, 0);
    swapcontext(&here, &other);
    t_leaf(50);
    swapcontext(&here, &other);
    return t_leaf(51);
}

TRACED void t_handler(int signal) { t_leaf(signal); }
TRACED int t_in_child(int x) { return t_leaf(x); }
TRACED int t_forks(void) {
    int pid = fork();
    if (pid == 0) { t_in_child(5); return 1; }
    int status;
    waitpid(pid, &status, 0);
    return 0;
}

int main(int argc, char **argv) {
    t_tail(1);
    t_tail_pointer(t_leaf, 2);
    t_tail_out('x');
    t_jumper();
    t_jumper();
    t_empty();
    t_switches();
    static char alternative[1 << 16];
    stack_t on = {.ss_sp = alternative, .ss_size = sizeof alternative};
    sigaltstack(&on, 0);
    struct sigaction action = {.sa_handler = t_handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, 0);
    raise(SIGUSR1);
    if (t_forks()) _exit(0);
    if (system("true")) return 9;
    if (argc > 1) raise(SIGTERM);
    puts("done");
    return 0;
}
