//! Pushing: its settings and its thread.

use super::room;
use crate::{
    cli::RunArgs,
    host::Host,
    otlp::{
        PushState, Pusher, RequestEncoder, Sink, WithPush,
        client::Client,
        resource,
        setting::{Exports, PushSettings, PushShape, SettingError, SettingSources},
    },
    source::Source,
};
use anyhow::Context;
use std::{env, sync::Arc, thread};
use tapster_ebpf::probe::Otlp;
use tokio::sync::{oneshot, watch};

/// Reads the destinations of metrics.
pub(super) fn exports(args: &RunArgs, file: Option<&Otlp>) -> Result<Exports, SettingError> {
    let variable = |name: &str| env::var_os(name).map(|text| text.into_string().map_err(|_| ()));
    Exports::read(&SettingSources { flags: args.otlp.flags(), variable: &variable, file })
}

/// The client for the receiver, if there is one.
pub(super) fn client(exports: &Exports) -> Result<Option<Client>, SettingError> {
    exports.push.clone().map(Client::new).transpose()
}

/// The pushers, and the source with the results of pushes.
pub(super) fn pushers(
    mut source: Arc<dyn Source>,
    exports: &Exports,
    client: Option<Client>,
    host: &Host,
) -> (Arc<dyn Source>, Vec<Pusher>) {
    let mut pushers = Vec::new();
    if client.is_none() && exports.console.is_none() {
        return (source, pushers);
    }
    let variable = |name: &str| env::var(name).ok();
    let resource = resource::resource(host, &variable, &exports.resource);
    let encoder = |shape| RequestEncoder::new(resource.clone(), shape);
    if let Some(client) = client {
        let settings = client.settings().clone();
        let state = Arc::new(PushState::new(&settings));
        source = Arc::new(WithPush::new(source, state.clone()));
        let PushSettings { endpoint, protocol, shape, push_timeout, .. } = settings;
        tracing::info!(%endpoint, protocol = protocol.name(), interval = ?shape.interval, "pushing metrics by OTLP");
        let sink = Sink::Receiver { client: Box::new(client), state };
        pushers.push(Pusher::new(source.clone(), sink, encoder(shape), shape.interval, push_timeout));
    }
    if let Some(shape) = exports.console {
        let PushShape { interval, .. } = shape;
        pushers.push(Pusher::new(source.clone(), Sink::Console, encoder(shape), interval, interval));
    }
    (source, pushers)
}

/// Pushes on a separate thread, so that a slow receiver and compression do not delay requests. Returns a future that is ready
/// when all pushers have ended.
pub(super) fn push(
    pushers: Vec<Pusher>,
    stopped: watch::Receiver<()>,
) -> anyhow::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    let (built, is_built) = std::sync::mpsc::channel();
    let spawned = thread::Builder::new().name("push".into()).spawn(move || {
        // The runtime is made on that thread, because it may not be dropped inside another runtime, such as the caller's.
        let runtime = match room::runtime(8, 1) {
            Ok(runtime) => runtime,
            Err(error) => return drop(built.send(Err(error))),
        };
        let _ = built.send(Ok(()));
        runtime.block_on(async {
            let running: Vec<_> =
                pushers.into_iter().map(|pusher| tokio::spawn(pusher.run(stopped.clone()))).collect();
            for pusher in running {
                // The runtime logs a panic in it.
                let _ = pusher.await;
            }
        });
        // A collection or a terminal that hangs is left behind.
        runtime.shutdown_background();
        // Nobody waits any more if this took too long.
        let _ = ended.send(());
    });
    spawned.context("no thread could be started to push from")?;
    is_built.recv().context("what pushes ended at once")??;
    Ok(end)
}
