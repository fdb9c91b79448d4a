// Exceptions through functions that are followed.
#include <cstdio>
#include <stdexcept>

namespace story {
struct Hasher {
    int depth = 0;
    __attribute__((noinline)) int read(int n) {
        if (n == 0) throw std::runtime_error("enough");
        struct Guard { Hasher *h; ~Guard() { h->depth++; } } guard{this};
        return read(n - 1) + 1;
    }
    __attribute__((noinline)) int attempt(int n) {
        try { return read(n); } catch (const std::exception &) { return -1; }
    }
};
}

int main() {
    story::Hasher hasher;
    int sum = 0;
    for (int i = 0; i < 10; i++) sum += hasher.attempt(5);
    std::printf("%d %d\n", sum, hasher.depth);
    return sum == -10 && hasher.depth == 50 ? 0 : 1;
}
