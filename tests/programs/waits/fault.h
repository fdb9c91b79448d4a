// A page whose first access is answered by the program itself: userfaultfd.
#ifndef FAULT_H
#define FAULT_H

struct fault {
    int file;
    char *page;
};

// Ends the program with a sentence where the kernel does not offer it.
void fault_try(void);
void fault_prepare(struct fault *fault);
// Takes the page away, so that the next access waits.
void fault_before(struct fault *fault);
// Waits until something waits for the page.
void fault_wait(struct fault *fault);
// Fills the page in.
void fault_answer(struct fault *fault);

#endif
