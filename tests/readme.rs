//! What is printed in documentation can be typed: every command of tapster in it has flags that there are, and those of README run as
//! printed where they can, with the output that is printed there.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use clap::Parser;
use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::tool,
    exporter::binary,
};
use tapster::cli::Cli;
use tempfile::TempDir;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Documents in which there may be commands.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "packaging/README.md", "dashboards/README.md"]
            .iter()
            .map(|name| repository().join(name))
            .collect();
    found.extend(fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found.sort();
    found
}

/// A command as printed, and the lines of output behind it.
#[derive(Debug)]
struct Typed {
    line: String,
    output: Vec<String>,
}

/// Commands in blocks of code: those behind `$ `, and all lines of blocks of shell.
fn commands(text: &str) -> Vec<Typed> {
    let (mut found, mut block) = (Vec::<Typed>::new(), None);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            block = block.is_none().then(|| kind.to_owned());
            continue;
        }
        let command = match block.as_deref() {
            Some("console") => line.strip_prefix("$ "),
            Some("sh" | "bash") => Some(line).filter(|line| !line.trim_start().starts_with('#')),
            _ => continue,
        };
        match command {
            Some(command) => {
                let mut line = command.to_owned();
                while let Some(begun) = line.strip_suffix('\\') {
                    line = begun.to_owned() + lines.next().unwrap_or_default();
                }
                found.push(Typed { line, output: Vec::new() });
            }
            None => {
                if let Some(last) = found.last_mut() {
                    last.output.push(line.to_owned());
                }
            }
        }
    }
    found
}

/// Words of a line of shell, and `None` where a command ends.
fn words(line: &str) -> Vec<Option<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\t') => words.extend(word.take().map(Some)),
            (None, '|' | '&' | ';' | '<' | '>' | '(' | ')') => {
                // What a number stands before goes elsewhere with it.
                let is_number = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
                words.extend(word.take().filter(|word| !is_number(word)).map(Some));
                words.push(None);
            }
            (Some(_) | None, _) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word.map(Some));
    words
}

/// What stands before a program that it runs.
fn is_prefix(word: &str) -> bool {
    let is_variable = word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    is_variable || ["sudo", "env", "exec", "nohup", "time"].contains(&word)
}

/// The command lines of tapster in a line of shell.
fn of_tapster(line: &str) -> Vec<Vec<String>> {
    let words = words(line);
    words
        .split(Option::is_none)
        .filter_map(|command| {
            let words: Vec<&String> = command.iter().flatten().collect();
            let is_it = |word: &str| word == "tapster" || word.ends_with("release/tapster");
            let begin = words.iter().position(|word| is_it(word))?;
            let before = &words[..begin];
            let is_run = before.iter().all(|word| is_prefix(word))
                || before.iter().any(|word| *word == "setpriv" || *word == "systemd-run");
            is_run.then(|| words[begin..].iter().map(|word| (*word).clone()).collect())
        })
        .collect()
}

#[test]
fn commands_in_documents_can_be_typed() {
    let (mut wrong, mut number) = (Vec::new(), 0);
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(repository()).unwrap().display().to_string();
        for typed in commands(&text) {
            for words in of_tapster(&typed.line) {
                number += 1;
                match Cli::try_parse_from(&words) {
                    Ok(_) => {}
                    Err(error) if !error.use_stderr() => {}
                    Err(error) => wrong.push(format!("{name}: {}\n{error}", typed.line)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(number > 40, "only {number} commands were found");
}

#[test]
fn commands_are_found() {
    let of = |line: &str| of_tapster(line).into_iter().map(|words| words.join(" ")).collect::<Vec<_>>();
    assert_eq!(of("sudo A=b tapster raid --for 5s 2>&1 | head"), ["tapster raid --for 5s"]);
    assert_eq!(of("cargo build && sudo target/release/tapster  # it"), ["target/release/tapster"]);
    assert_eq!(
        of("tapster list 'usdt:a b' > x; tapster schema"),
        ["tapster list usdt:a b", "tapster schema"]
    );
    assert_eq!(of("helm install tapster helm/tapster"), [""; 0]);
}

/// A place where `sudo`, `tapster` and the files of the repository are, as for who reads README.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let programs = directory.path().join("programs");
        fs::create_dir(&programs).unwrap();
        symlink(binary().get_program(), programs.join("tapster")).unwrap();
        let sudo = programs.join("sudo");
        fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").unwrap();
        fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).unwrap();
        symlink(repository().join("examples"), directory.path().join("examples")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a line as printed.
    fn run(&self, line: &str) -> Output {
        let path = format!("{}:{}", self.path("programs").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.directory.path()).env("PATH", path).stdin(Stdio::null());
        shell.output().unwrap()
    }
}

fn readme() -> String {
    fs::read_to_string(repository().join("README.md")).unwrap()
}

/// A command of README by how it begins; of several, one by its number.
fn typed(beginning: &str, number: usize) -> Typed {
    let found = commands(&readme()).into_iter().filter(|typed| typed.line.starts_with(beginning)).nth(number);
    found.unwrap_or_else(|| panic!("README.md has no `{beginning}`, number {number}"))
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The file of the example, as printed.
fn example() -> String {
    let readme = readme();
    let (_, rest) = readme.split_once("`execs.yaml`:\n\n```yaml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// The five minutes: what is listed, the mistake, and what `check` says once it is corrected.
fn a_probe_of_your_own() -> Outcome {
    let place = Place::new();
    let listed = typed("sudo tapster list sched_process_exec", 0);
    let (stdout, stderr) = texts(&place.run(&listed.line));
    for line in listed.output.iter().filter(|line| !line.is_empty()) {
        assert!(stdout.lines().any(|found| found == line), "`{line}` is not in\n{stdout}{stderr}");
    }
    fs::write(place.path("execs.yaml"), example()).unwrap();
    let wrong = typed("sudo tapster check execs.yaml", 0);
    let output = place.run(&wrong.line);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(texts(&output).1.trim_end(), wrong.output.join("\n"), "as README has it");
    fs::write(place.path("execs.yaml"), example().replace(".uuid.", ".uid.")).unwrap();
    let right = typed("sudo tapster check execs.yaml", 1);
    let output = place.run(&right.line);
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    // How many instructions there are differs between kernels.
    let plain =
        |line: &str| line.split(", ").filter(|part| !part.ends_with("instructions")).collect::<String>();
    let lines: Vec<String> = stdout.lines().map(plain).collect();
    assert_eq!(lines, right.output.iter().map(|line| plain(line)).collect::<Vec<_>>());
    Ok("listed, refused and corrected as printed".into())
}

/// The commands that follow: the exporter on its own port, programs, a scrape.
fn execs_are_counted() -> Outcome {
    tool("curl")?;
    let port = tapster::server::PORT;
    drop(TcpListener::bind(("::", port)).map_err(|error| Skip(format!("port {port}: {error}")))?);
    let place = Place::new();
    fs::write(place.path("execs.yaml"), example().replace(".uuid.", ".uid.")).unwrap();
    let lines = [
        typed("sudo tapster run -c execs.yaml", 0).line,
        // A person types slower than it starts.
        format!("until curl -so ready localhost:{port}/-/ready; do kill -0 $! || exit 9; sleep 0.1; done"),
        typed("for i in 1 2 3; do ls", 0).line,
        typed("curl -s localhost:18277/metrics | grep execs_total", 0).line,
        "kill $!; wait".to_owned(),
    ];
    let output = place.run(&lines.join("\n"));
    let (stdout, stderr) = texts(&output);
    let count = |comm: &str, uid: &str| {
        let series = format!("tapster_execs_total{{comm=\"{comm}\",uid=\"{uid}\"}} ");
        stdout.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok()).unwrap_or(0)
    };
    assert!(count("ls", "0") >= 3 && count("date", "65534") >= 1, "{stdout}{stderr}");
    Ok("ls and date are counted".into())
}

fn report() -> Outcome {
    let place = Place::new();
    let syscalls = typed("sudo tapster report syscalls --for 1s", 0);
    let output = place.run(&syscalls.line);
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    for part in ["\ntapster_syscalls_total: ", "  syscall ", " per second  percent\n"] {
        assert!(stdout.contains(part), "{stdout}");
    }
    Ok(stdout.lines().next().unwrap_or_default().to_owned())
}

/// The example program, built and followed as printed.
fn callgraph() -> Outcome {
    tool("cc")?;
    let place = Place::new();
    let built = place.run(&typed("cc ", 0).line);
    assert!(built.status.success(), "{}", texts(&built).1);
    let followed = typed("sudo tapster callgraph ./block_hasher", 0);
    let output = place.run(&followed.line);
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    // Functions that are printed there are called here, as often.
    let called = |lines: &mut dyn Iterator<Item = &str>| -> BTreeSet<(String, String)> {
        lines
            .filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let [calls, _, _, _, _, function] = words[..] else { return None };
                calls.parse::<u64>().ok().map(|_| (calls.to_owned(), function.to_owned()))
            })
            .collect()
    };
    let expected = called(&mut followed.output.iter().map(String::as_str));
    let found = called(&mut stdout.lines());
    assert!(expected.len() > 2 && found.is_superset(&expected), "{expected:?} of {found:?}\n{stdout}");
    Ok(format!("{} functions as printed", expected.len()))
}

/// What README shows is either run here, or left out for a reason.
fn all_are_known() -> Outcome {
    const RUN: [&str; 8] = [
        "sudo tapster list sched_process_exec",
        "sudo tapster check execs.yaml",
        "sudo tapster run -c execs.yaml",
        "for i in 1 2 3; do ls",
        "curl -s localhost:18277/metrics | grep execs_total",
        "sudo tapster report syscalls --for 1s",
        "cc -O1",
        "sudo tapster callgraph ./block_hasher",
    ];
    const LEFT: [(&str, &str); 11] = [
        ("cargo build --release", "the tests' own binary stands for it"),
        ("sudo install target/release/tapster", "it writes to the host"),
        ("sudo tapster", "tests/block.rs starts it without arguments, on a port of its own"),
        ("curl -s localhost:18277/metrics | grep loop1", "of a run with fio"),
        ("sudo tapster raid --for 5s", "tests/guest: it takes arrays"),
        ("sudo tapster report block_io --bars", "tests/guest: it takes an array"),
        ("sudo tapster report sched -- sh -c", "half a minute; tests/traced.rs has others of its kind"),
        ("sudo OTEL_METRICS_EXPORTER=otlp", "tests/otlp: it takes a receiver"),
        ("helm install", "tests/fleet: it takes a cluster"),
        ("sudo tapster -c /etc/tapster/probes", "tests/fleet, with files of its own"),
        ("sudo setpriv --reuid nobody", "tests/package: as a user who may do less"),
    ];
    for typed in commands(&readme()) {
        let line = typed.line;
        let is_known = RUN.iter().any(|known| line.starts_with(known))
            || LEFT
                .iter()
                .any(|(known, _)| *known == line || (line.starts_with(known) && *known != "sudo tapster"));
        assert!(is_known, "`{line}` of README.md is neither run here, nor left out for a reason");
    }
    Ok(format!("{} are run, {} left out", RUN.len(), LEFT.len()))
}

#[test]
fn readme_runs_as_printed() {
    let mut cases = Cases::new("readme");
    cases.run("all are known", all_are_known);
    if let Some(mut cases) = Cases::as_root("readme") {
        cases.run("a probe of your own", a_probe_of_your_own);
        cases.run("execs are counted", execs_are_counted);
        cases.run("report", report);
        cases.run("callgraph", callgraph);
        cases.finish();
    }
    cases.finish();
}
