//! `tapster run`: attach and serve.

use super::{FAILURE, RunArgs, USAGE, lacks, report};
use crate::{
    config,
    exporter::{Exporter, Failure, Options},
    kernel::{Kernel, Paths},
    label::Host,
    otlp::{
        Encoder, Pusher, Sink, State, WithPush,
        client::Client,
        resource,
        setting::{Exports, SettingError, Settings, Shape, Sources},
    },
    server,
    source::Source,
    status::Down,
    sys, telemetry,
};
use std::{
    env,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tapster_ebpf::probe::Otlp;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    time::MissedTickBehavior,
};

/// How often starts without an end are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How often files of programs are looked at that probes are in.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How many such looks there are to one at whether replaced files still run, which reads the maps of every process.
const LOOKS_PER_RELEASE: u64 = 10;
/// How often it is looked which cgroups are gone, where a probe names them.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Such looks may take one part in so many of the time, as long as they are no further apart than this.
const LOOK_SHARE: u32 = 20;
const LOOK_LATEST: Duration = Duration::from_secs(5);
/// How long a scrape under way may hold up the end of the process.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// How long pushes may hold it up: the one under way and the last.
const PUSHES_END: Duration = Duration::from_secs(8);
/// Where it serves unless told otherwise.
const LISTEN: &str = ":9955";

pub(super) fn run(args: &RunArgs) -> anyhow::Result<u8> {
    let begun = Instant::now();
    telemetry::init(&args.log_level, args.log_format)?;
    let config = match config::load(&args.probes.request()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(USAGE);
        }
    };
    if report(&config.diagnostics) {
        return Ok(USAGE);
    }
    let exports = exports(args, config.otlp.as_ref());
    let (exports, client) = match exports.and_then(|exports| Ok((client(&exports)?, exports))) {
        Ok((client, exports)) => (exports, client),
        Err(error) => {
            eprintln!("{}", error.to_string().trim_end());
            return Ok(USAGE);
        }
    };
    let kernel = Kernel::detect(&args.host.paths());
    if lacks(&kernel) {
        return Ok(FAILURE);
    }
    for limitation in kernel.limitations() {
        tracing::warn!("{}", limitation.message);
    }
    let (probes, diagnostics) = tapster_ebpf::check::select(config.probes, &kernel.target());
    if report(&diagnostics) {
        return Ok(USAGE);
    }
    // The port first: nothing should be attached for an exporter that cannot serve.
    let address = args.listen.as_deref().or(exports.serve.then_some(LISTEN));
    let listener = match address.map(server::bind).transpose() {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(FAILURE);
        }
    };
    let detect = begun.elapsed();
    let options = Options { run_stats: !args.no_run_stats, attach: true, command: false };
    let (exporter, failures, times) =
        Exporter::start(&probes, &kernel, &args.host.host(), config.reasons, options);
    for Failure { name, down: Down { reason, message } } in &failures {
        if *reason == "waiting" && !args.strict {
            tracing::warn!(probe = name, "{message}");
        } else {
            tracing::error!(probe = name, reason, "probe is down: {message}");
        }
    }
    // A probe that does not compile is the user's mistake, one that the kernel refuses is not.
    if args.strict && !failures.is_empty() {
        return Ok(if failures.iter().all(|failure| matches!(failure.down.reason, "compile" | "waiting")) {
            USAGE
        } else {
            FAILURE
        });
    }
    tracing::info!(
        probes = exporter.up(),
        down = failures.len(),
        programs = exporter.programs(),
        total_ms = millis(begun.elapsed()),
        detect_ms = millis(detect),
        compile_ms = millis(times.compile),
        prepare_ms = millis(times.prepare),
        load_ms = millis(times.load),
        attach_ms = millis(times.attach),
        kernel = kernel.release,
        "probes attached"
    );
    drop((kernel, probes));
    sys::release_memory();
    let exporter = Arc::new(exporter);
    let (source, pushers) = pushers(exporter.clone(), &exports, client, &args.host.host());
    match &listener {
        Some(listener) => tracing::info!(address = %listener.local_addr(), "serving /metrics"),
        None if pushers.is_empty() => {
            tracing::warn!("nothing is served and nothing is pushed, as was asked for");
        }
        None => tracing::info!("no port is open, because metrics are only pushed"),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let sweeper = tokio::spawn(sweep(exporter.clone()));
        let follower = tokio::spawn(follow(exporter.clone(), args.host.paths(), args.host.host()));
        let retirer = tokio::spawn(retire(exporter.clone()));
        let (stop, stopped) = watch::channel(());
        let pushing = (!pushers.is_empty()).then(|| push(pushers, stopped)).transpose()?;
        let shutdown = async move {
            shutdown().await;
            // What pushes ends now, with a last push, while requests under way are answered.
            drop(stop);
        };
        let result = match listener {
            Some(listener) => server::serve(listener, source, shutdown).await.map_err(anyhow::Error::from),
            None => {
                shutdown.await;
                Ok(())
            }
        };
        if let Some(pushing) = pushing
            && tokio::time::timeout(PUSHES_END, pushing).await.is_err()
        {
            tracing::warn!("the last push did not end in time");
        }
        sweeper.abort();
        follower.abort();
        retirer.abort();
        result
    });
    // Programs detach when their descriptors close, which is when the last reference goes.
    runtime.shutdown_timeout(SHUTDOWN);
    result?;
    tracing::info!("stopped");
    Ok(0)
}

/// Reads where metrics go.
fn exports(args: &RunArgs, file: Option<&Otlp>) -> Result<Exports, SettingError> {
    let variable = |name: &str| env::var_os(name).map(|text| text.into_string().map_err(|_| ()));
    Exports::read(&Sources { flags: args.otlp.flags(), variable: &variable, file })
}

/// The way to the receiver, if there is one.
fn client(exports: &Exports) -> Result<Option<Client>, SettingError> {
    exports.push.clone().map(Client::new).transpose()
}

/// What pushes, and the source with what became of pushes.
fn pushers(
    exporter: Arc<Exporter>,
    exports: &Exports,
    client: Option<Client>,
    host: &Host,
) -> (Arc<dyn Source>, Vec<Pusher>) {
    let mut source: Arc<dyn Source> = exporter;
    let mut pushers = Vec::new();
    if client.is_none() && exports.console.is_none() {
        return (source, pushers);
    }
    let variable = |name: &str| env::var(name).ok();
    let resource = resource::resource(host, &variable, &exports.resource);
    let encoder = |shape| Encoder::new(resource.clone(), shape);
    if let Some(client) = client {
        let settings = client.settings().clone();
        let state = Arc::new(State::new(&settings));
        source = Arc::new(WithPush::new(source, state.clone()));
        let Settings { endpoint, protocol, shape, push_timeout, .. } = settings;
        tracing::info!(%endpoint, protocol = protocol.name(), interval = ?shape.interval, "pushing metrics by OTLP");
        let sink = Sink::Receiver { client: Box::new(client), state };
        pushers.push(Pusher::new(source.clone(), sink, encoder(shape), shape.interval, push_timeout));
    }
    if let Some(shape) = exports.console {
        let Shape { interval, .. } = shape;
        pushers.push(Pusher::new(source.clone(), Sink::Console, encoder(shape), interval, interval));
    }
    (source, pushers)
}

/// Pushes on a thread of their own: what a receiver does and what compression takes is no business of those who are served.
/// Answers with what is done when all have ended.
fn push(pushers: Vec<Pusher>, stopped: watch::Receiver<()>) -> anyhow::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
    thread::Builder::new().name("push".into()).spawn(move || {
        runtime.block_on(async {
            let running: Vec<_> =
                pushers.into_iter().map(|pusher| tokio::spawn(pusher.run(stopped.clone()))).collect();
            for pusher in running {
                // A panic in it is logged by the runtime.
                let _ = pusher.await;
            }
        });
        // A collection or a terminal that hangs is left behind.
        runtime.shutdown_background();
        // Nobody waits any more if it took too long.
        let _ = ended.send(());
    })?;
    Ok(end)
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

async fn sweep(exporter: Arc<Exporter>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        let exporter = exporter.clone();
        // A panic in it is logged by the runtime, and the next round tries again.
        let _ = tokio::task::spawn_blocking(move || exporter.sweep()).await;
    }
}

async fn retire(exporter: Arc<Exporter>) {
    loop {
        let (exporter, begun) = (exporter.clone(), Instant::now());
        // As above.
        let _ = tokio::task::spawn_blocking(move || {
            if exporter.names_cgroups() {
                exporter.retire();
            }
        })
        .await;
        tokio::time::sleep((begun.elapsed() * LOOK_SHARE).clamp(LOOK_EVERY, LOOK_LATEST)).await;
    }
}

async fn follow(exporter: Arc<Exporter>, paths: Paths, host: Host) {
    if !exporter.watches() {
        return;
    }
    let mut ticks = tokio::time::interval(FOLLOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for look in 1_u64.. {
        ticks.tick().await;
        let (exporter, paths, host) = (exporter.clone(), paths.clone(), host.clone());
        // As above.
        let _ = tokio::task::spawn_blocking(move || {
            exporter.follow(&paths, &host);
            if look % LOOKS_PER_RELEASE == 0 {
                exporter.release();
            }
        })
        .await;
    }
}

async fn shutdown() {
    let handlers =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = handlers else {
        // Without handlers the signals end the process, and the kernel detaches what it held.
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                tracing::info!("got SIGTERM, stopping");
                return;
            }
            _ = interrupt.recv() => {
                tracing::info!("got SIGINT, stopping");
                return;
            }
            // It asks daemons to read their files again; ending them instead would lose every counter.
            _ = hangup.recv() => tracing::warn!("got SIGHUP, but the configuration is read only at the start: restart to change it"),
        }
    }
}
