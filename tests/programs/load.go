// Goroutines that call, grow their stacks, collect garbage, panic and recover, as fast as they can for some seconds;
// at the end each function's calls, counted by the program itself.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

var hashes, grows, throws uint64

//go:noinline
func hash(data []byte) uint64 {
	sum := uint64(14695981039346656037)
	for _, b := range data {
		sum = (sum ^ uint64(b)) * 1099511628211
	}
	return sum
}

// A stack of a goroutine begins with a few kilobytes, and is moved as a whole when it has to be larger.
//
//go:noinline
func grow(depth int) int {
	var filled [64]int
	filled[depth%64] = depth
	if depth == 0 {
		return filled[0]
	}
	return grow(depth-1) + filled[depth%64]
}

//go:noinline
func throw(number int) {
	panic(number)
}

//go:noinline
func catch(number int) {
	defer func() { recover() }()
	throw(number)
}

func work(end time.Time, wait *sync.WaitGroup) {
	defer wait.Done()
	var own [3]uint64
	for round := 0; time.Now().Before(end); round++ {
		data := make([]byte, 512)
		for i := 0; i < 20; i++ {
			hash(data)
		}
		own[0] += 20
		// In a goroutine of its own, so that its stack begins small.
		done := make(chan int)
		go func() { done <- grow(100) }()
		<-done
		own[1] += 101
		catch(round)
		own[2]++
		if round%200 == 0 {
			runtime.GC()
		}
		runtime.Gosched()
	}
	atomic.AddUint64(&hashes, own[0])
	atomic.AddUint64(&grows, own[1])
	atomic.AddUint64(&throws, own[2])
}

func main() {
	seconds, _ := strconv.ParseFloat(os.Args[1], 64)
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var wait sync.WaitGroup
	for i := 0; i < 16; i++ {
		wait.Add(1)
		go work(end, &wait)
	}
	wait.Wait()
	fmt.Printf("hash %d\ngrow %d\nthrow %d\n", hashes, grows, throws)
}
