//! The object of a probe comes, goes, is exchanged or switched off while the probe runs.

use super::{LackingRights, Running, compile, compile_failure, may_come, open, waiting};
use crate::{
    collector::LabelContext,
    exporter::{
        alternative::{Candidate, StartStep},
        files::{Change, WatchedProbe},
    },
    host::Host,
    kernel::{Kernel, Switches},
    load::LoadError,
    lock::lock,
    status::{Cause, Down},
};
use std::{path::Path, sync::Arc, time::SystemTime};
use tapster_ebpf::{attach::Target, probe::Probe, program::Program};

impl Running {
    /// Checks whether the probe's files are still the same. If not, requests `kernel`, compiles the probe and attaches it to
    /// the present files.
    pub(in crate::exporter) fn follow<'k>(
        &self,
        host: &Host,
        shared: &LabelContext,
        kernel: impl FnOnce() -> &'k Kernel,
    ) {
        let Some(watched) = &self.watched else { return };
        let mut watched = lock(watched);
        let change = watched.look(&host.proc);
        if change == Change::None {
            return;
        }
        let before = self.absent().len();
        let down = self.revive(&mut watched, change, host, shared, kernel()).err();
        match &down {
            // Only the file of an optional event went.
            None if self.absent().len() > before => {}
            None => {
                lock(&self.reattached).files += 1;
                tracing::info!(probe = self.name, "attached to the files that are there now");
            }
            Some(Down { cause: Cause::Waiting, message }) => tracing::warn!(probe = self.name, "{message}"),
            Some(failed @ Down { cause, message }) => {
                // Files or memory may have been short for a moment.
                if matches!(cause, Cause::Load | Cause::Attach) {
                    watched.try_again(change);
                }
                if lock(&self.down).as_ref() != Some(failed) {
                    tracing::error!(probe = self.name, reason = cause.word(), "probe is down: {message}");
                }
            }
        }
        self.set_down(down);
    }

    /// Compiles and attaches the probe again.
    fn revive(
        &self,
        watched: &mut WatchedProbe,
        change: Change,
        host: &Host,
        shared: &LabelContext,
        kernel: &Kernel,
    ) -> Result<(), Down> {
        let target = kernel.target();
        // A probe that was never up begins with all alternatives; one that was up goes on with those that it used.
        let probe = if self.reader.get().is_some() { &watched.probe } else { &self.declared };
        let program = tapster_ebpf::compile(probe, &target).map_err(|diagnostics| {
            waiting(watched).unwrap_or_else(|| compile_failure(&diagnostics, kernel))
        })?;
        if let Some(reader) = self.reader.get() {
            let all = change == Change::Containers;
            let result = reader.attached().renew(&program, kernel, all);
            return self.renewed(program, result);
        }
        watched.probe = self.begin(probe, program, host, shared, (&target, kernel))?;
        Ok(())
    }

    /// Notes which optional events the probe runs without after its files changed. One that appeared may need maps of another
    /// layout, so that only a restart can attach to it; the others go on.
    fn renewed(&self, program: Program, result: Result<(), LoadError>) -> Result<(), Down> {
        let before = self.absent();
        match result {
            Ok(()) => {}
            Err(error) if program.absent != before && matches!(error, LoadError::Other(_)) => {
                tracing::warn!(
                    probe = self.name,
                    "an optional event has come that this probe has no room for: tapster attaches to it when it is started again"
                );
                return Ok(());
            }
            Err(error) => return Err(error.down()),
        }
        for event in program.absent.iter().filter(|event| !before.contains(event)) {
            tracing::warn!(probe = self.name, "{event}");
        }
        *lock(&self.absent) = program.absent;
        Ok(())
    }

    /// Attaches the probe for the first time, long after it was declared.
    pub(super) fn begin(
        &self,
        probe: &Probe,
        program: Program,
        host: &Host,
        shared: &LabelContext,
        context: (&Target<'_>, &Kernel),
    ) -> Result<Probe, Down> {
        let began = SystemTime::now();
        let mut candidate = Candidate::new(probe);
        let attached = candidate.bring(program, StartStep::Attached, context)?;
        *lock(&self.passed) = candidate.passed;
        lock(&self.absent).clone_from(&attached.program.absent);
        self.tell_passed();
        let reader = open(attached, began, host, shared)?;
        reader.show(Arc::new(self.shown()));
        self.reader.set(reader).map_err(|_| Down {
            cause: Cause::Internal,
            message: "the probe was attached twice: this is a bug in tapster".into(),
        })?;
        Ok(candidate.probe)
    }

    /// Whether it is attached to CPUs, which come and go.
    pub(in crate::exporter) fn is_on_cpus(&self) -> bool {
        self.reader().is_some_and(|reader| reader.attached().has_cpu_events())
    }

    /// Attaches to CPUs that came online.
    pub(in crate::exporter) fn follow_cpus(&self, online: &[u32]) {
        let Some(reader) = self.reader() else { return };
        let (cpus, refused) = reader.attached().follow_cpus(online);
        if !cpus.is_empty() {
            lock(&self.reattached).cpus += u64::try_from(cpus.len()).unwrap_or(u64::MAX);
            tracing::info!(probe = self.name, ?cpus, "attached to CPUs that came online");
        }
        let down = refused.map(|error| {
            let Down { cause, message } = error.down();
            Down { cause, message: format!("not all CPUs that are online are counted on: {message}") }
        });
        let mut known = lock(&self.uncovered);
        if let Some(Down { cause, message }) = down.as_ref().filter(|down| known.as_ref() != Some(down)) {
            tracing::error!(probe = self.name, reason = cause.word(), "probe is down: {message}");
        }
        *known = down;
    }

    /// Stores whether a switch of the host stops the probe.
    pub(in crate::exporter) fn heed(&self, switches: Switches) {
        let mut codes = self.program().into_iter().flat_map(|program| &program.codes);
        let stopped = codes.find_map(|code| Some((code, switches.stopping(code.mechanism)?)));
        let stopped = stopped.map(|(code, switch)| Down {
            cause: Cause::SwitchedOff,
            message: format!(
                "`{}` is attached, and not called as long as `{switch}` is 0: set it to 1",
                code.at
            ),
        });
        let mut known = lock(&self.stopped);
        match (&*known, &stopped) {
            (None, Some(Down { cause, message })) => {
                tracing::error!(probe = self.name, reason = cause.word(), "probe is down: {message}");
            }
            (Some(_), None) => tracing::info!(probe = self.name, "it is called again"),
            _ => {}
        }
        *known = stopped;
    }

    /// Attaches to functions in kernel modules that came, went or were loaded again, or brings the probe up if it is down for
    /// another reason.
    pub(in crate::exporter) fn follow_modules<'k>(
        &self,
        changed: &[String],
        host: &Host,
        shared: &LabelContext,
        kernel: impl Fn() -> &'k Kernel,
        lacking: LackingRights,
    ) {
        let down = if self.reader().is_some() { &self.unloaded } else { &self.down };
        let before = lock(down).clone();
        let result = if let Some(reader) = self.reader() {
            for what in reader.attached().left_later(changed, &kernel) {
                tracing::warn!(probe = self.name, modules = ?changed, "{what}");
            }
            if !reader.attached().is_in_modules(changed) {
                return;
            }
            reader.attached().follow_modules(changed, kernel()).map_err(|error| error.down())
        } else {
            if !before.as_ref().is_some_and(may_come) {
                return;
            }
            let kernel = kernel();
            let target = kernel.target();
            compile(&self.declared, &target, kernel, lacking).and_then(|program| {
                self.begin(&self.declared, program, host, shared, (&target, kernel)).map(drop)
            })
        };
        match &result {
            Ok(()) => {
                lock(&self.reattached).modules += 1;
                tracing::info!(probe = self.name, modules = ?changed, "attached to what modules have now");
            }
            Err(down) if before.as_ref() == Some(down) => {}
            Err(Down { cause: Cause::Waiting, message }) => tracing::warn!(probe = self.name, "{message}"),
            Err(Down { cause, message }) => {
                tracing::error!(probe = self.name, reason = cause.word(), "probe is down: {message}");
            }
        }
        *lock(down) = result.err();
    }

    /// Detaches from files that were replaced and that no process executes any more.
    pub(in crate::exporter) fn release(&self, proc: &Path) {
        if let Some(reader) = self.reader() {
            reader.attached().release(proc);
        }
    }
}
