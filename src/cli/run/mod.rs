//! `tapster run`: attaches probes and serves metrics.

mod push;
mod room;
mod signals;
mod systemd;
mod upkeep;

use super::{
    FAILURE, HostArgs, ProbeArgs, USAGE, build,
    otlp::OtlpArgs,
    rights::{self, RightsArgs},
    stop::{Stop, capable, configured, selected},
    web::{AutoReloadArgs, WebArgs},
};
use crate::{
    config,
    exporter::{Exporter, StartFailure, StartOptions},
    kernel::Kernel,
    owner::{Owners, Trust},
    reload::Configuration,
    server,
    status::{Cause, Down},
    sys,
    telemetry::{self, LogFormat},
    web::Web,
};
use clap::Args;
use signals::Signals;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;

/// How long a scrape in progress may delay the end of the process.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// Most threads for blocking work: collections, upkeep, passwords. Each of these has its own limit.
const BLOCKING: usize = 64;
/// How long pushes may delay the end: the present one and the last.
const PUSHES_END: Duration = Duration::from_secs(8);

/// `run` as it is written out.
#[derive(Args, Debug, Clone)]
pub struct RunCommand {
    /// Shipped probes, groups of them such as `sched`, files of probes in YAML, directories of such files, or `-` for standard
    /// input [default: the shipped probes]
    #[arg(value_name = "NAME|FILE|DIR|-")]
    pub what: Vec<String>,
    /// Its flags.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of `run`.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// Which probes.
    #[command(flatten)]
    pub probes: ProbeArgs,
    /// Where the host's files are.
    #[command(flatten)]
    pub host: HostArgs,
    /// How it serves.
    #[command(flatten)]
    pub web: WebArgs,
    /// When the configuration is read again.
    #[command(flatten)]
    pub auto_reload: AutoReloadArgs,
    /// Exit if any probe does not come up at the start, instead of running the others
    #[arg(long)]
    pub strict: bool,
    /// Be ready (`/-/ready`, `tapster_ready`) only while these probes, or all of these groups of shipped ones, are up;
    /// separated by commas [default: while any probe is]
    #[arg(long = "ready.require", value_name = "NAME", value_delimiter = ',')]
    pub ready_require: Vec<String>,
    /// What is given up after the start.
    #[command(flatten)]
    pub rights: RightsArgs,
    /// Have the kernel count the runs of all programs of this host and their time. This adds about six tenths to what the
    /// shipped programs cost, and needs `CAP_SYS_ADMIN`
    #[arg(long = "run-stats", overrides_with = "no_run_stats")]
    pub run_stats: bool,
    /// Do not ask the kernel to count runs; the default
    #[arg(long = "no-run-stats", overrides_with = "run_stats")]
    pub no_run_stats: bool,
    /// Least severe messages to log: error, warn, info, debug, or a filter such as `tapster=debug`
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Form of log messages
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Where metrics go.
    #[command(flatten)]
    pub otlp: OtlpArgs,
}

/// Runs the probes that flags and `words` name.
pub(super) fn run(args: &RunArgs, words: &[String]) -> Result<u8, Stop> {
    let begun = Instant::now();
    signals::hold()?;
    let log = telemetry::init(&args.log_level, args.log_format).map_err(Stop::usage)?;
    tracing::info!(
        version = build::VERSION,
        commit = build::commit(),
        built_for = build::TARGET,
        compiler = build::COMPILER,
        "tapster starts"
    );
    // Raised for the whole run. Processes started from here would inherit the limit, but there are none.
    let _files = room::raise_files();
    let owners = Owners::of_process(&args.rights.owners);
    let selection = args.probes.selection(words, Trust::Only(owners.clone()));
    // Marks are taken before the files are read: later changes are then seen.
    let marks = (selection.marks(), SystemTime::now());
    let config = configured(&selection)?;
    let exports = push::exports(args, config.otlp.as_ref());
    let (exports, client) = match exports.and_then(|exports| Ok((push::client(&exports)?, exports))) {
        Ok((client, exports)) => (exports, client),
        Err(error) => {
            tell!("{}", error.to_string().trim_end());
            return Ok(USAGE);
        }
    };
    let kernel = capable(Kernel::detect(&args.host.host()))?;
    for limitation in kernel.limitations() {
        tracing::warn!("{}", limitation.message);
    }
    let probes = selected(config.probes, &kernel)?;
    if let Err(error) = config::are_there(&probes, &config.off, &args.ready_require) {
        tell!("error: `--ready.require`: {error}");
        return Ok(USAGE);
    }
    let web = match args.web.file.as_deref().map(Web::open).transpose() {
        Ok(web) => web.map(Arc::new),
        Err(error) => {
            tell!("{}", error.to_string().trim_end());
            return Ok(USAGE);
        }
    };
    rights::warn_of_others(&owners, web.iter().flat_map(|web| web.files()).collect(), exports.push.as_ref());
    // Ports are opened first: nothing should be attached for an exporter that cannot serve.
    let listeners = match args.web.listeners(exports.serve) {
        Ok(listeners) => listeners,
        Err(error) => {
            tell!("error: {error}");
            return Ok(if error.is_usage() { USAGE } else { FAILURE });
        }
    };
    let reserve = room::reserve()?;
    let detect = begun.elapsed();
    let options = StartOptions { run_stats: args.run_stats, attach: true, command: false };
    let (exporter, failures, times) =
        Exporter::start(&probes, &kernel, &args.host.host(), config.reasons, options);
    drop(reserve);
    exporter.set_device_groups(&config.device_groups);
    exporter.require(args.ready_require.clone());
    for StartFailure { name, down: Down { cause, message } } in &failures {
        if *cause == Cause::Waiting && !args.strict {
            tracing::warn!(probe = name, "{message}");
        } else {
            tracing::error!(probe = name, reason = cause.word(), "probe is down: {message}");
        }
    }
    // A probe that does not compile is the user's error, a refusal of the kernel is not.
    if args.strict && !failures.is_empty() {
        return Ok(
            if failures.iter().all(|failure| matches!(failure.down.cause, Cause::Compile | Cause::Waiting)) {
                USAGE
            } else {
                FAILURE
            },
        );
    }
    tracing::info!(
        probes = exporter.up(),
        down = failures.len(),
        programs = exporter.programs(),
        total_ms = millis(begun.elapsed()),
        detect_ms = millis(detect),
        compile_ms = millis(times.compile),
        load_ms = millis(times.load),
        attach_ms = millis(times.attach),
        kernel = kernel.release,
        "probes attached"
    );
    drop((kernel, probes));
    sys::release_memory();
    let exporter = Arc::new(exporter);
    let host = args.host.host();
    let configuration = Arc::new(Configuration::new(
        exporter.clone(),
        selection,
        host.clone(),
        config.otlp,
        marks,
        vec![Arc::new(move || log.families())],
    ));
    let (source, pushers) = push::pushers(configuration.clone(), &exports, client, &host);
    let mut files = configuration.files();
    files.extend(web.iter().flat_map(|web| web.files()));
    let rights = args.rights.sandbox(&exporter, &exports, &host, files).enter();
    for (name, text) in &rights.lines {
        tracing::info!("{name}: {text}");
    }
    exporter.lacks(rights.lacking);
    exporter.read_programs();
    let served = server::ServerOptions {
        rights: rights.lines,
        telemetry_path: args.web.telemetry_path.clone(),
        max_requests: args.web.max_requests,
        max_connections: room::connections(),
        reload: args.web.lifecycle.then(|| {
            let configuration = configuration.clone();
            Arc::new(move || configuration.reload()) as server::Reload
        }),
        web,
        ..server::ServerOptions::default()
    };
    let runtime = room::runtime(BLOCKING, room::READY)?;
    let result = runtime.block_on(async {
        // Handlers are installed before readiness is reported, so that no signal is lost after it.
        let signals = Signals::handle()?;
        for listener in &listeners {
            let scheme = if served.web.as_ref().is_some_and(|web| web.is_tls()) { "https" } else { "http" };
            tracing::info!(address = %listener.local_addr(), scheme, "serving {}", args.web.telemetry_path);
        }
        match (listeners.is_empty(), pushers.is_empty()) {
            (true, true) => tracing::warn!("nothing is served and nothing is pushed, as was asked for"),
            (true, false) => tracing::info!("no port is open, because metrics are only pushed"),
            (false, _) => {}
        }
        systemd::ready(exporter.up(), exporter.probes().len());
        let upkeep = upkeep::start(&exporter, &configuration, host, args.auto_reload.every());
        let (stop, stopped) = watch::channel(());
        let pushing = (!pushers.is_empty()).then(|| push::push(pushers, stopped)).transpose()?;
        let shutdown = async move {
            signals.end(exporter, configuration).await;
            systemd::stopping();
            // Pushing ends now, with a last push, while requests in progress are answered.
            drop(stop);
        };
        let result = if listeners.is_empty() {
            shutdown.await;
            Ok(())
        } else {
            server::serve(listeners, source, served, shutdown).await.map_err(anyhow::Error::from)
        };
        if let Some(pushing) = pushing
            && tokio::time::timeout(PUSHES_END, pushing).await.is_err()
        {
            tracing::warn!("the last push did not end in time");
        }
        drop(upkeep);
        result
    });
    // Programs detach when their descriptors close, which happens when the last reference is dropped.
    runtime.shutdown_timeout(SHUTDOWN);
    result?;
    tracing::info!("stopped");
    Ok(0)
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}
