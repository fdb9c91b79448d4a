// Programs that sleep in one known way each. See main.c.
#ifndef WAITS_H
#define WAITS_H
#define _GNU_SOURCE

#include <stdbool.h>
#include <sys/types.h>

// One way to sleep. Functions that a kind does not need are null.
struct kind {
    const char *name;    // Also the task's name, so at most 15 letters.
    const char *reasons; // The reasons it may be explained by, the first one for preference.
    void (*prepare)(void); // Once, before the waker is made.
    void (*before)(void);  // Each time, in the sleeper, outside of the time that is measured.
    void (*arm)(void);     // Each time, in the waker, before the sleeper goes to sleep.
    void (*sleep)(void);   // The call that blocks: what is measured.
    void (*wake)(void);    // In the waker, the length of a sleep later.
    void (*after)(void);   // Each time, in the sleeper, outside of the time that is measured.
    int most;              // The largest number of sleeps; 0 for any.
    void (*end)(void);     // Once, in the sleeper: what the kernel would not clear up by itself.
};

// The tables, each ended by a kind without a name.
extern const struct kind time_kinds[], process_kinds[], lock_kinds[], ipc_kinds[], socket_kinds[], event_kinds[],
    memory_kinds[], fuse_kinds[], device_kinds[];

extern long length_ns;       // How long a sleep is to take.
extern pid_t sleeper, waker; // Both processes.


// This kernel does not offer the kind: says so and ends with success.
void skip(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
// Ends with the message and errno's.
void fail(const char *what) __attribute__((noreturn));
// The result of a call that must succeed.
long check(long result, const char *what);
// A path below the working directory of this run, which is removed at its end.
const char *path_of(const char *name);
void pause_ns(long ns);
// Memory that the sleeper and the waker share, zeroed.
void *shared(size_t size);

#endif
