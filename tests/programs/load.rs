//! Threads that call, recurse, allocate, panic and catch it, as fast as they can for some seconds; at the end each
//! function's calls, counted by the program itself.

use std::{
    hint::black_box,
    panic::{self, catch_unwind},
    thread,
    time::{Duration, Instant},
};

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn load_hash(data: *const u8, length: u64) -> u64 {
    // SAFETY: the caller says how long it is.
    let data = unsafe { std::slice::from_raw_parts(data, length as usize) };
    data.iter().fold(14_695_981_039_346_656_037, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn load_recurse(depth: u64) -> u64 {
    if depth == 0 { 0 } else { black_box(load_recurse(black_box(depth - 1))) + 1 }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C-unwind" fn load_throw(number: u64) -> u64 {
    if number % 2 == 0 {
        panic!("even");
    }
    number
}

fn work(end: Instant) -> [u64; 4] {
    let mut own = [0; 4];
    let mut round = 0;
    while Instant::now() < end {
        for _ in 0..20 {
            let data = vec![1_u8; 512];
            black_box(load_hash(data.as_ptr(), 512));
        }
        own[0] += 20;
        black_box(load_recurse(30));
        own[1] += 31;
        let caught = catch_unwind(|| load_throw(black_box(round)));
        own[2] += 1;
        own[3] += u64::from(caught.is_ok());
        round += 1;
    }
    own
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).unwrap().parse().unwrap();
    panic::set_hook(Box::new(|_| {}));
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let threads: Vec<_> = (0..8).map(|_| thread::spawn(move || work(end))).collect();
    let mut sum = [0; 4];
    for thread in threads {
        for (sum, own) in sum.iter_mut().zip(thread.join().unwrap()) {
            *sum += own;
        }
    }
    println!("hash {}\nrecurse {}\nthrow {}\nreturned {}", sum[0], sum[1], sum[2], sum[3]);
}
