// Functions that begin with the mark for computed jumps, called a known number of times: before the mark and behind it, and one that
// goes round behind its own. Prints a line `NAME NUMBER` for what each call was given or gave, added up.
#include <stdio.h>
#include <unistd.h>

#define OWN __attribute__((noinline, noclone))

// endbr64, then an instruction that is given, the result is twice the first argument and the second.
#define FUNCTION(name, first, last)                                                                                              \
    __asm__(".text\n.balign 16\n.globl " #name "\n.type " #name ", @function\n" #name ":\n"                                     \
            ".byte 0xf3, 0x0f, 0x1e, 0xfa\n" first "\n lea (%rsi,%rdi,2), %rax\n" last "\n ret\n"                               \
            ".size " #name ", . - " #name "\n");                                                                                 \
    long name(long number, long more)

FUNCTION(framed, "push %rbp\n mov %rsp, %rbp", "pop %rbp");
FUNCTION(kept, "push %r12\n mov %rdi, %r12", "pop %r12");
FUNCTION(plain, "mov %rdi, %rax", "");
// As many rounds as the second argument says, each of which begins behind the mark.
FUNCTION(rounds, "9: nop\n dec %rsi\n jne 9b", "");
FUNCTION(passed, "push %rbx", "pop %rbx");

OWN long calls_kept(long number)
{
    long result = kept(number, 1);
    __asm__ volatile("" ::: "memory");
    return result;
}

// A call that leaves out the mark.
OWN long calls_behind(long number)
{
    long result;
    __asm__ volatile("call passed + 4" : "=a"(result), "+D"(number) : "S"(1L) : "memory", "cc");
    return result;
}

int main(int count, char **arguments)
{
    (void)arguments;
    long sums[5] = {0};
    for (long number = 0; number < 100; number++) {
        sums[0] += framed(number, 3);
        sums[1] += calls_kept(number);
        sums[2] += plain(number, 5);
        sums[3] += rounds(number, 50);
        sums[4] += number % 5 ? passed(number, 1) : calls_behind(number);
    }
    const char *names[] = {"framed", "kept", "plain", "rounds", "passed"};
    for (int index = 0; index < 5; index++)
        printf("%s %ld\n", names[index], sums[index]);
    fflush(stdout);
    // With an argument it stays until its input ends.
    while (count > 1 && getchar() != EOF)
        ;
    return 0;
}
