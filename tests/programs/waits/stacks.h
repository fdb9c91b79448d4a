// Where a task sleeps, by the kernel's own word: /proc/PID/stack, looked at every few milliseconds by a process of its
// own.
#ifndef STACKS_H
#define STACKS_H
#include <sys/types.h>

// The state that /proc/PID/stat has: R, S, D, T and so on; 0 if there is none.
char state_of(pid_t of);
void stacks_begin(pid_t of);
void stacks_end(void);
// The stacks as a member of an object in JSON, the most frequent first: functions, the innermost first.
void stacks_print(void);

#endif
