//! bpftrace beside us: started, found in the kernel, and what its programs cost there.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What a command prints.
pub(crate) fn output(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// A program in the kernel.
pub(crate) struct Loaded {
    pub(crate) id: u64,
    #[allow(dead_code, reason = "one of the benchmarks goes by it")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) runs: u64,
    pub(crate) run_ns: u64,
}

/// Every program in the kernel.
pub(crate) fn programs() -> Vec<Loaded> {
    let text = output(Command::new("bpftool").args(["prog", "show", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
    json.as_array()
        .unwrap()
        .iter()
        .map(|program| Loaded {
            id: program["id"].as_u64().unwrap(),
            kind: text(&program["type"]),
            name: text(&program["name"]),
            runs: program["run_cnt"].as_u64().unwrap_or(0),
            run_ns: program["run_time_ns"].as_u64().unwrap_or(0),
        })
        .collect()
}

/// A running bpftrace and the ids of its programs.
pub(crate) struct Bpftrace(Child, Vec<u64>);

impl Bpftrace {
    /// Starts a script, and waits until as many programs as `count` that `is_its` knows are attached.
    pub(crate) fn start(script: &str, count: usize, is_its: impl Fn(&Loaded) -> bool) -> Self {
        let before: Vec<u64> = programs().into_iter().map(|program| program.id).collect();
        let mut command = Command::new("bpftrace");
        let child = command.args(["-e", script]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut running = Self(child, Vec::new());
        let begun = Instant::now();
        while running.1.len() < count {
            assert!(begun.elapsed() < Duration::from_mins(2), "bpftrace did not attach: {script}");
            thread::sleep(Duration::from_millis(50));
            let new = |program: &Loaded| !before.contains(&program.id) && is_its(program);
            running.1 = programs().into_iter().filter(new).map(|program| program.id).collect();
        }
        thread::sleep(Duration::from_millis(300));
        running
    }

    /// Its programs as they are now.
    pub(crate) fn programs(&self) -> Vec<Loaded> {
        programs().into_iter().filter(|program| self.1.contains(&program.id)).collect()
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
