//! `tapster callgraph`: runs a command and shows the calls of its functions.

use super::{
    FAILURE, HostArgs, USAGE,
    command::{exit_status, not_started, signalled},
    output::create,
    stop::{Stop, capable},
    tell_missing,
};
use crate::{
    callgraph::{
        self, AttachMethod, AttachedGraph, Graph, GraphRequest, Losses, Output, Plan, Printer, Summary,
        Unreturned,
    },
    kernel::Kernel,
    sys,
};
use clap::{Args, ValueEnum};
use std::{
    ffi::OsString,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::Duration,
};
use tapster_ebpf::callgraph::decode;
use tokio::signal::unix::{SignalKind, signal};

/// How often the ring is read. Writers send no wake-ups, which would cost the command more than the probes do.
const READ_EVERY: Duration = Duration::from_millis(10);
/// Number of arguments that are shown if `folded` is the name of a file, not the form, which has none.
const ARGUMENTS: usize = 2;

/// Flags of `callgraph`.
#[derive(Args, Debug)]
pub struct CallgraphArgs {
    /// The program or library whose functions are followed, by path or name, and a pattern of their names: `*` is any
    /// text, `?` one character [default pattern: *]
    #[arg(value_name = "BINARY[:GLOB]")]
    pub what: String,
    /// Show only the calls of this function, and calls made beneath it
    #[arg(long, value_name = "FUNCTION")]
    pub trigger: Option<String>,
    /// Form of the graph [default: text]
    #[arg(long, value_name = "FORM")]
    pub format: Option<Output>,
    /// File for the graph, apart from the command's output. Without `--format`, the words `text`, `folded` and `json` choose
    /// the form
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What `--output` was called when that was the form
    #[arg(long, value_name = "FILE", hide = true)]
    pub file: Option<PathBuf>,
    /// How many arguments are shown; without type information nobody knows how many a function has
    #[arg(long, value_name = "COUNT", default_value = "2", default_value_ifs = NO_ARGUMENTS, value_parser = arguments)]
    pub args: Option<usize>,
    /// Most functions that are followed
    #[arg(long, value_name = "COUNT", default_value_t = 4096)]
    pub limit: usize,
    /// Size of the ring between the kernel and this program, MiB: a power of 2
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = buffer)]
    pub buffer: u32,
    /// Where the host's files are.
    #[command(flatten)]
    pub host: HostArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The folded form shows no arguments. So their number has no default with it, and one that is given can be refused.
const NO_ARGUMENTS: [(&str, &str, Option<&str>); 2] =
    [("format", "folded", None), ("output", "folded", None)];

fn arguments(text: &str) -> Result<usize, String> {
    let most = tapster_ebpf::callgraph::ARGUMENTS;
    text.parse().ok().filter(|count| *count <= most).ok_or_else(|| format!("expected 0 to {most}"))
}

fn buffer(text: &str) -> Result<u32, String> {
    let power = |size: &u32| size.is_power_of_two() && *size <= 1024;
    text.parse().ok().filter(power).ok_or_else(|| "expected a power of 2 up to 1024".into())
}

pub(super) fn callgraph(args: &CallgraphArgs) -> Result<u8, Stop> {
    let GraphOutput { form, file, arguments } = match GraphOutput::of(args) {
        Ok(place) => place,
        Err(message) => {
            tell!("error: {message}");
            return Ok(USAGE);
        }
    };
    let request = GraphRequest { what: args.what.clone(), trigger: args.trigger.clone(), limit: args.limit };
    let plan = match callgraph::plan(&request) {
        Ok(plan) => plan,
        Err(missing) => {
            tell_missing(&missing);
            return Ok(USAGE);
        }
    };
    let out: Box<dyn Write> = match file {
        Some(path) => Box::new(create(path)?),
        None => Box::new(io::stdout()),
    };
    let kernel = capable(Kernel::detect(&args.host.host()))?;
    let target = kernel.target();
    if target.arch != plan.arch {
        tell!("error: `{}` is for another processor than this one", plan.path.display());
        return Ok(USAGE);
    }
    let Some(btf) = target.btf else {
        tell!("error: without the kernel's BTF processes cannot be followed");
        return Ok(FAILURE);
    };
    let attached = match callgraph::attach(&plan, btf, args.buffer << 20, AttachMethod::Multi) {
        Ok(attached) => attached,
        Err(error) => {
            tell!("error: {error}");
            return Ok(FAILURE);
        }
    };
    drop(kernel);
    for note in plan.notes.iter().cloned().chain(refused(&plan, &attached)) {
        tell!("note: {note}");
    }
    let mut printer = Printer::new(BufWriter::with_capacity(1 << 16, out), &plan.functions, form, arguments);
    let (status, summary, losses) = match follow(args, &plan, attached, &mut printer)? {
        Ok(end) => end,
        Err(error) => {
            tell!("error: `{}` could not be started: {error}", args.command[0].to_string_lossy());
            return Ok(not_started(&error));
        }
    };
    let notes = notes(&summary, losses, plan.triggered);
    printer.summary(&summary, &notes);
    for note in &notes {
        tell!("note: {note}");
    }
    if let Some(error) = printer.failure() {
        tell!("error: the graph could not be written: {error}");
        return Ok(FAILURE);
    }
    Ok(status.map_or_else(|| signalled(libc::SIGINT), exit_status))
}

/// The destination of the graph, its form, and the number of arguments.
#[derive(Debug, PartialEq)]
struct GraphOutput<'a> {
    form: Output,
    file: Option<&'a Path>,
    arguments: usize,
}

impl<'a> GraphOutput<'a> {
    /// Before `--format` existed, `--output` was the form and `--file` the file; both are still accepted.
    fn of(args: &'a CallgraphArgs) -> Result<Self, &'static str> {
        let output = args.output.as_deref();
        let word = output.and_then(|output| Output::from_str(output.to_str()?, false).ok());
        let (form, output) = match (args.format, word) {
            (None, Some(form)) => (form, None),
            (form, _) => (form.unwrap_or(Output::Text), output),
        };
        if form == Output::Folded && args.args.is_some() {
            return Err(
                "`--args` does nothing with `folded`, which shows no arguments: leave it out, or take `--format text`",
            );
        }
        let arguments = args.args.unwrap_or(ARGUMENTS);
        match (output, args.file.as_deref()) {
            (Some(_), Some(_)) => Err("`--file` is the old word for `--output`: give one of them"),
            (output, file) => Ok(Self { form, file: output.or(file), arguments }),
        }
    }
}

/// Places that the kernel refused, in a sentence for each function.
fn refused(plan: &Plan, attached: &AttachedGraph) -> Vec<String> {
    let mut notes: Vec<String> = attached
        .refused
        .iter()
        .map(|(function, error)| {
            format!("`{}` could not be attached to everywhere: {error}", plan.functions[*function].name)
        })
        .collect();
    notes.dedup();
    notes
}

type FollowResult = (Option<ExitStatus>, Summary, Losses);

/// Starts the command and follows it to its end; its status is `None` if it was not waited for.
fn follow(
    args: &CallgraphArgs,
    plan: &Plan,
    mut attached: AttachedGraph,
    printer: &mut Printer<'_, impl Write>,
) -> anyhow::Result<Result<FollowResult, io::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Handlers are installed first: from now on signals are for the command.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut graph = Graph::new(&plan.functions, plan.triggered, plan.stacks);
        let mut child = match Command::new(&args.command[0]).args(&args.command[1..]).spawn() {
            Ok(child) => child,
            Err(error) => return Ok(Err(error)),
        };
        let mut interrupts = 0;
        let status = loop {
            // Checked before the ring is read, so that after the end the ring contains everything that the command did.
            let ended = child.try_wait()?;
            drain(&mut attached, &mut graph, printer);
            if ended.is_some() {
                break ended;
            }
            tokio::select! {
                () = tokio::time::sleep(READ_EVERY) => {}
                // The terminal sends the signal to the command as well, which decides what to do.
                _ = interrupt.recv() => {
                    if !sys::is_in_foreground() {
                        pass_on(&child, libc::SIGINT);
                    }
                    interrupts += 1;
                    if interrupts > 1 {
                        break None;
                    }
                }
                _ = terminate.recv() => pass_on(&child, libc::SIGTERM),
                _ = hangup.recv() => pass_on(&child, libc::SIGHUP),
            }
        };
        let losses = attached.losses()?;
        Ok(Ok((status, graph.finish(), losses)))
    })
}

fn pass_on(child: &Child, signal: i32) {
    if let Err(error) = sys::send_signal(child.id(), signal) {
        tell!("note: the command could not be sent signal {signal}: {error}");
    }
}

fn drain(attached: &mut AttachedGraph, graph: &mut Graph<'_>, printer: &mut Printer<'_, impl Write>) {
    attached.ring.read(|bytes| {
        if let Some(record) = decode(bytes) {
            graph.record(&record, &mut |line| printer.line(line));
        }
    });
    printer.flush();
}

/// Remarks on results that may mislead, in sentences.
fn notes(summary: &Summary, losses: Losses, triggered: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if losses.records > 0 {
        notes.push(format!(
            "{} records were lost: the ring was full, so calls are missing and times may be wrong; narrow the pattern or give a larger --buffer",
            losses.records
        ));
    }
    if losses.processes > 0 {
        notes.push(format!("{} processes were not followed: too many at one time", losses.processes));
    }
    if summary.functions.iter().all(|sums| sums.calls == 0) {
        let what = if triggered { "the trigger was not" } else { "none of the functions was" };
        notes.push(format!("{what} called by the command: does it run this file?"));
    }
    let Unreturned { ended, unwound, jumped, not_taken, running } = summary.unreturned;
    for (count, text) in [
        (ended, "lasted until their thread ended or ran another program"),
        (unwound, "were left by longjmp or an exception, and have no time"),
        (jumped, "were left by a jump or an exception, and have no time"),
        (not_taken, "are of functions whose returns are not taken, and have no time"),
        (running, "had not returned when the trace ended, and have no time"),
    ] {
        if count > 0 {
            notes.push(format!("calls without a return: {count} {text}"));
        }
    }
    if summary.without_entry > 0 {
        notes.push(format!("{} returns are of calls that were not seen to begin", summary.without_entry));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn output_is_a_file_and_old_forms_are_taken() {
        let of = |flags: &[&str]| {
            let words = [&["tapster", "callgraph", "x"], flags, &["--", "y"]].concat();
            let Some(Command::Callgraph(args)) = Cli::try_parse_from(words).unwrap().command else {
                panic!("another command")
            };
            let place = GraphOutput::of(&args).map_err(str::to_owned)?;
            assert_eq!(place.arguments, args.args.unwrap_or(2), "{flags:?}");
            Ok::<_, String>((place.form, place.file.map(|file| file.display().to_string())))
        };
        let file = |name: &str| Some(name.to_owned());
        for (flags, expected) in [
            (&[][..], (Output::Text, None)),
            (&["-o", "g.txt"], (Output::Text, file("g.txt"))),
            (&["--format", "json", "--output", "g"], (Output::Json, file("g"))),
            (&["--output", "json"], (Output::Json, None)),
            (&["--output", "folded", "--file", "g"], (Output::Folded, file("g"))),
            (&["--file", "g"], (Output::Text, file("g"))),
            (&["--output", "./json"], (Output::Text, file("./json"))),
            (&["--format", "text", "--output", "json"], (Output::Text, file("json"))),
        ] {
            assert_eq!(of(flags), Ok(expected), "{flags:?}");
        }
        assert!(of(&["--output", "g", "--file", "h"]).unwrap_err().contains("--output"));
        // Arguments are shown in all forms but one, in which their number would have no effect.
        assert_eq!(of(&["--args", "4"]), Ok((Output::Text, None)));
        assert_eq!(of(&["--args", "4", "--format", "json"]), Ok((Output::Json, None)));
        assert_eq!(of(&["--format", "json", "--output", "folded"]), Ok((Output::Json, file("folded"))));
        assert_eq!(of(&["--format", "folded"]), Ok((Output::Folded, None)));
        for form in ["--format", "--output"] {
            for count in ["0", "2", "4"] {
                let refused = of(&["--args", count, form, "folded"]).unwrap_err();
                assert!(refused.contains("`--args` does nothing with `folded`"), "{refused}");
            }
        }
    }
}
