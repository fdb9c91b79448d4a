// Goroutines that change threads, grow their stacks, panic and recover, while their functions are followed.
package main

import (
	"fmt"
	"sync"
	"time"
)

//go:noinline
func factorial(n int) int {
	if n < 2 {
		return 1
	}
	return n * factorial(n-1)
}

// Each level takes more than a kilobyte of a stack that begins with a few.
//
//go:noinline
func grow(n int) int {
	var filled [200]int
	filled[n%200] = n
	if n == 0 {
		return filled[0]
	}
	return grow(n-1) + filled[n%200]
}

//go:noinline
func panics(i int) {
	if i%2 == 0 {
		panic("even")
	}
}

//go:noinline
func recovers(i int) {
	defer func() { recover() }()
	panics(i)
}

//go:noinline
func worker(wait *sync.WaitGroup) {
	defer wait.Done()
	for i := 0; i < 20; i++ {
		factorial(5)
		grow(60)
		time.Sleep(time.Millisecond)
		recovers(i)
	}
}

func main() {
	var wait sync.WaitGroup
	for i := 0; i < 8; i++ {
		wait.Add(1)
		go worker(&wait)
	}
	wait.Wait()
	fmt.Println("done")
}
