//! Writes the graph and its sums as texts.

use super::{
    pairing::{CallStep, GraphLine},
    plan::FollowedFunction,
    summary::{Summary, Sums},
};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    io::{self, Write},
};

/// Deepest indentation; with more, a line would be mostly indentation.
const DEEPEST: usize = 256;

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Lines of entries and returns while the command runs, and a table
    Text,
    /// At the end: chains of calls with the nanoseconds in the last of each, for flame graphs
    Folded,
    /// Entries and returns while the command runs, and a summary: an object on each line
    Json,
}

/// Writes the graph. After its reader has closed the pipe, it writes nothing.
#[derive(Debug)]
pub struct Printer<'f, W> {
    out: W,
    functions: &'f [FollowedFunction],
    output: Output,
    arguments: usize,
    failed: Option<io::Error>,
    text: String,
}

impl<'f, W: Write> Printer<'f, W> {
    /// Shows this many arguments.
    pub fn new(out: W, functions: &'f [FollowedFunction], output: Output, arguments: usize) -> Self {
        Self { out, functions, output, arguments, failed: None, text: String::new() }
    }

    /// Writes one line, if the form has lines.
    pub fn line(&mut self, line: &GraphLine<'_>) {
        self.text.clear();
        match self.output {
            Output::Text => self.text_line(line),
            Output::Folded => return,
            Output::Json => {
                let value = self.json_line(line);
                let _ = writeln!(self.text, "{value}");
            }
        }
        self.write();
    }

    fn write(&mut self) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(self.text.as_bytes()).err();
        }
    }

    /// Flushes the output.
    pub fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.out.flush().err();
        }
    }

    /// Why the output is incomplete, if it is. A closed pipe is no failure.
    pub fn failure(self) -> Option<io::Error> {
        self.failed.filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }

    fn text_line(&mut self, line: &GraphLine<'_>) {
        let GraphLine { task, comm, since_ns, depth, function, step, .. } = line;
        let name = &self.functions[*function].name;
        let (since_us, indent) = (since_ns / 1000, (*depth).min(DEEPEST));
        let _ = write!(self.text, "{since_us:>6} {comm}({}):{:indent$}", task.tid, "");
        let _ = match step {
            CallStep::Enter(_) => write!(self.text, "->{name}"),
            CallStep::Return { .. } => write!(self.text, "<-{name}"),
        };
        match step {
            CallStep::Enter(arguments) => {
                for (index, argument) in arguments.iter().take(self.arguments).enumerate() {
                    let _ = write!(self.text, " arg{index}={argument:#x}");
                }
            }
            CallStep::Return { value: Some(value), .. } => {
                let _ = write!(self.text, " return={value:#x}");
            }
            CallStep::Return { value: None, .. } => {}
        }
        self.text.push('\n');
    }

    fn json_line(&self, line: &GraphLine<'_>) -> Value {
        let GraphLine { task, comm, time_ns, since_ns, depth, function, step } = line;
        let mut value = json!({
            "time_ns": time_ns,
            "since_ns": since_ns,
            "pid": task.pid,
            "tid": task.tid,
            "comm": comm,
            "depth": depth,
            "function": self.functions[*function].name,
        });
        // 64-bit numbers are written as texts: many readers keep only 53 bits of a number.
        match step {
            CallStep::Enter(arguments) => {
                value["event"] = "entry".into();
                let shown = arguments.iter().take(self.arguments);
                value["args"] = shown.map(|argument| format!("{argument:#x}")).collect();
            }
            CallStep::Return { value: result, duration_ns } => {
                value["event"] = "return".into();
                value["duration_ns"] = (*duration_ns).into();
                if let Some(result) = result {
                    value["value"] = format!("{result:#x}").into();
                }
            }
        }
        value
    }

    /// Writes the sums, then `notes`.
    pub fn summary(&mut self, summary: &Summary, notes: &[String]) {
        self.text.clear();
        match self.output {
            Output::Text => {
                if summary.functions.iter().any(|sums| sums.calls > 0) {
                    self.text.push('\n');
                    table(summary, self.functions, &mut self.text);
                }
            }
            Output::Folded => {
                for (chain, self_ns) in summary.chains() {
                    // `;` separates calls, and the last space precedes the number.
                    let names: Vec<String> =
                        chain.iter().map(|index| self.functions[*index].name.replace(';', ":")).collect();
                    let _ = writeln!(self.text, "{} {self_ns}", names.join(";"));
                }
            }
            Output::Json => {
                let functions: Vec<Value> = summary
                    .by_total()
                    .into_iter()
                    .map(|(index, sums)| {
                        json!({
                            "function": self.functions[index].name,
                            "calls": sums.calls,
                            "timed": sums.timed,
                            "total_ns": sums.total_ns,
                            "self_ns": sums.self_ns,
                            "sum_ns": sums.sum_ns,
                            "max_ns": sums.max_ns,
                        })
                    })
                    .collect();
                let _ = writeln!(
                    self.text,
                    "{}",
                    json!({ "event": "summary", "functions": functions, "notes": notes })
                );
            }
        }
        self.write();
        self.flush();
    }
}

/// Writes times in microseconds; a function without a call that ended has none.
fn table(summary: &Summary, functions: &[FollowedFunction], text: &mut String) {
    let us = |ns: u64| format!("{}.{}", ns / 1000, ns % 1000 / 100);
    let mut rows = vec![["calls", "total µs", "self µs", "average µs", "maximum µs"].map(str::to_owned)];
    let called = summary.by_total();
    for (_, sums) in &called {
        let Sums { calls, timed, total_ns, self_ns, sum_ns, max_ns } = sums;
        let times =
            sum_ns.checked_div(*timed).map(|average_ns| [*total_ns, *self_ns, average_ns, *max_ns].map(us));
        let [total, own, average, maximum] = times.unwrap_or_else(|| ["-"; 4].map(str::to_owned));
        rows.push([calls.to_string(), total, own, average, maximum]);
    }
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let names =
        std::iter::once("function").chain(called.iter().map(|(index, _)| functions[*index].name.as_str()));
    for (row, name) in rows.iter().zip(names) {
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(text, "{cell:>width$}  ");
        }
        let _ = writeln!(text, "{name}");
    }
}
