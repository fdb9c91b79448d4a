//! A short run of fuzz targets on mutations of their seeds: what fuzzers found stays found, and what everybody runs still
//! meets a few thousand strange inputs.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// For each target; `TAPSTER_FUZZ_SECONDS` makes it longer.
const SECONDS: u64 = 2;

/// xorshift64*: the same inputs at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = if root.join("fuzz").exists() { root.to_owned() } else { root.join("..") };
    let mut folders = vec![root.join("fuzz/seeds").join(name)];
    if name == "yaml" {
        folders.push(root.join("config/probes"));
    }
    if name == "imports" {
        folders.extend(["scripts", "exporter"].map(|folder| root.join("tests/import").join(folder)));
    }
    let mut paths: Vec<_> = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds for {name}");
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    const PIECES: [&str; 16] = [
        "&a ",
        "*a",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "\n  - ",
        "\"",
        "args.",
        " ?? ",
        "(struct x *)",
        "start.",
        "-",
        "\u{e9}",
        "<<",
    ];
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(data.len() + 1);
        match random.below(6) {
            0 if at < data.len() => data[at] ^= 1 << random.below(8),
            1 if at < data.len() => data[at] = u8::try_from(random.below(256)).unwrap(),
            2 => {
                let end = (at + random.below(16)).min(data.len());
                data.drain(at..end);
            }
            3 => {
                let piece = PIECES[random.below(PIECES.len())];
                data.splice(at..at, piece.bytes());
            }
            4 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(64)).min(other.len());
                data.splice(at..at, other[from..to].iter().copied());
            }
            _ => data.truncate(at.max(1)),
        }
    }
    data
}

pub(crate) fn run(name: &str, target: fn(&[u8])) {
    let seconds =
        std::env::var("TAPSTER_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let seeds = seeds(name);
    for seed in &seeds {
        target(seed);
    }
    let mut random = Random(0x7461_7073_7465_7221);
    let begun = Instant::now();
    let mut count = 0_u64;
    while begun.elapsed() < Duration::from_secs(seconds) {
        let input = mutate(&mut random, &seeds);
        let started = Instant::now();
        if let Err(panic) = std::panic::catch_unwind(|| target(&input)) {
            eprintln!("input of {name}: {:?}", String::from_utf8_lossy(&input));
            std::panic::resume_unwind(panic);
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "slow input of {name}: {:?}",
            String::from_utf8_lossy(&input)
        );
        count += 1;
    }
    println!("{name}: {count} inputs");
}
