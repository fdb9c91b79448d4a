//! An event may name several attach points; the first that the kernel has is used. The kernel may still refuse it: for example,
//! the processor lacks a counter, or a function cannot be traced. Then the next one is used, and the log reports it.

use super::running::compile_failure;
use crate::{
    kernel::Kernel,
    load::{self, Attached, LoadError},
    status::Down,
};
use tapster_ebpf::{
    attach::Target,
    missing::AbsentEvent,
    point::{AttachPoint, Subject},
    probe::{Event, Probe},
    program::Program,
};

/// A probe on its way into the kernel.
#[derive(Debug)]
pub(super) struct Candidate {
    /// The probe without the alternatives that were refused.
    pub(super) probe: Probe,
    /// Which were refused, and why, in sentences.
    pub(super) passed: Vec<String>,
}

/// How far a program is taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum StartStep {
    /// The verifier has accepted it.
    Loaded,
    /// Everything that can be tried without attaching it was tried too.
    Tried,
    /// It is attached.
    Attached,
}

impl StartStep {
    /// Takes a loaded probe this far.
    pub(super) fn take(self, attached: &mut Attached, kernel: &Kernel) -> Result<(), LoadError> {
        match self {
            Self::Loaded => Ok(()),
            Self::Tried => attached.attempt(kernel),
            Self::Attached => attached.attach(kernel),
        }
    }
}

impl Candidate {
    pub(super) fn new(probe: &Probe) -> Self {
        Self { probe: probe.clone(), passed: Vec::new() }
    }

    /// Loads the compiled probe and takes the step; if the kernel refuses, does the same with the next alternatives, as long as
    /// there are any.
    pub(super) fn bring(
        &mut self,
        program: Program,
        step: StartStep,
        context: (&Target<'_>, &Kernel),
    ) -> Result<Attached, Down> {
        match bring(program, step, context.1) {
            Ok(attached) => Ok(attached),
            Err(refused) => {
                self.pass_over(&refused)?;
                self.bring_next(step, context)
            }
        }
    }

    /// Goes on to the next alternative, or without the event if that is optional. Fails with why the probe is down if neither
    /// can be done.
    pub(super) fn pass_over(&mut self, refused: &LoadError) -> Result<(), Down> {
        let place = refused.place().map(str::to_owned);
        if let Some((place, probe)) =
            place.as_ref().and_then(|place| Some((place, without(&self.probe, place)?)))
        {
            self.passed.push(format!("`{place}` is passed over for the next alternative: {refused}"));
            self.probe = probe;
            return Ok(());
        }
        let next = place.and_then(|place| left_out(&self.probe, place, refused.to_string()));
        self.probe = next.ok_or_else(|| self.down(refused.down()))?;
        Ok(())
    }

    /// Compiles the probe without the alternative that was passed over, and takes it to the step, with further alternatives if
    /// needed.
    pub(super) fn bring_next(
        &mut self,
        step: StartStep,
        (target, kernel): (&Target<'_>, &Kernel),
    ) -> Result<Attached, Down> {
        loop {
            let program = tapster_ebpf::compile(&self.probe, target)
                .map_err(|diagnostics| self.down(compile_failure(&diagnostics, kernel)))?;
            match bring(program, step, kernel) {
                Ok(attached) => return Ok(attached),
                Err(refused) => self.pass_over(&refused)?,
            }
        }
    }

    /// Why the probe is down if all alternatives were refused.
    fn down(&self, down: Down) -> Down {
        if self.passed.is_empty() {
            return down;
        }
        Down { message: format!("{}\n{}", down.message.trim_end(), self.passed.join("\n")), ..down }
    }
}

/// Loads a program and takes the step.
fn bring(program: Program, step: StartStep, kernel: &Kernel) -> Result<Attached, LoadError> {
    let mut attached = load::load(program, kernel.btf.as_ref().ok())?;
    step.take(&mut attached, kernel)?;
    Ok(attached)
}

/// Whether two attach points must be used together: both ends of a function's calls identify a call by its frame.
fn are_twins(one: &AttachPoint, other: &AttachPoint) -> bool {
    match (one.kind.subject, other.kind.subject) {
        (Subject::Function { traced, .. }, Subject::Function { traced: other_traced, .. }) => {
            one.name() == other.name() && traced == other_traced
        }
        _ => one == other,
    }
}

/// The probe without an alternative; `None` if no other follows it.
fn without(probe: &Probe, place: &str) -> Option<Probe> {
    let mut probe = probe.clone();
    let mut events = probe.starts.iter_mut().chain(&mut probe.ends).chain(&mut probe.notes);
    let refused = events.find_map(|event| {
        let index = event.at.iter().position(|at| at.value.to_string() == place)?;
        (index + 1 < event.at.len()).then(|| event.at[index].value.clone())
    })?;
    for event in probe.starts.iter_mut().chain(&mut probe.ends).chain(&mut probe.notes) {
        if let Some(index) = event.at.iter().position(|at| are_twins(&at.value, &refused))
            && index + 1 < event.at.len()
        {
            event.at.remove(index);
        }
    }
    Some(probe)
}

/// The probe without the optional event at a place; `None` if an event that is not optional has no other place, or if no other
/// event would be left.
fn left_out(probe: &Probe, place: String, why: String) -> Option<Probe> {
    let mut probe = probe.clone();
    let is_at = |event: &Event| event.at.last().is_some_and(|at| at.value.to_string() == place);
    let refused: Vec<bool> =
        probe.events().filter(|event| is_at(event)).map(|event| event.optional).collect();
    if refused.is_empty() || refused.contains(&false) {
        return None;
    }
    let was_pair = !probe.starts.is_empty();
    probe.starts.retain(|event| !is_at(event));
    probe.ends.retain(|event| !is_at(event));
    probe.notes.retain(|event| !is_at(event));
    probe.left_out.push(AbsentEvent { at: place, why });
    let is_whole = !probe.ends.is_empty() && (!was_pair || !probe.starts.is_empty());
    is_whole.then_some(probe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapster_ebpf::{declaration, diagnostic::SourceFile};

    fn points(probe: &Probe) -> Vec<String> {
        probe.attach_points().map(|at| at.value.to_string()).collect()
    }

    #[test]
    fn both_ends_of_a_call_go_on_alike() {
        let text = "probes:\n\
                    - name: calls\n  function: vfs_read\n  metrics: [{ histogram: calls_seconds, value: duration }]\n\
                    - name: cycles\n  at: { one_of: ['hardware:cpu-cycles:100000', 'profile:hz:99'] }\n  metrics: [{ counter: cycles_total }]\n";
        let (file, diagnostics) = declaration::parse(&SourceFile::new("t", text));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let [calls, cycles] = file.probes.as_slice() else { panic!("{:?}", file.probes) };
        for refused in ["fentry:vfs_read", "fexit:vfs_read"] {
            let next = without(calls, refused).unwrap();
            assert_eq!(points(&next), ["kprobe:vfs_read", "kretprobe:vfs_read"], "{refused}");
            assert!(without(&next, "kprobe:vfs_read").is_none(), "the last one");
        }
        assert!(without(calls, "kprobe:vfs_read").is_none(), "nothing is behind it");
        assert!(without(calls, "fentry:vfs_write").is_none(), "it is not there");
        assert_eq!(points(&without(cycles, "hardware:cpu-cycles:100000").unwrap()), ["profile:hz:99"]);
    }

    #[test]
    fn an_optional_event_that_is_refused_is_left_out() {
        let text = "probes:\n\
                    - name: cache\n  events:\n  - at: 'kprobe:first'\n  - { at: 'kprobe:second', optional: true }\n\
                    \x20 metrics: [{ counter: cache_total }]\n\
                    - name: all\n  events: [{ at: { all_of: ['kprobe:first', 'kprobe:second'] }, optional: true }]\n\
                    \x20 metrics: [{ counter: all_total }]\n\
                    - name: pair\n  start: { at: 'kprobe:first', key: tid, optional: true }\n\
                    \x20 end: { at: 'kprobe:second', key: tid }\n  metrics: [{ counter: pair_total }]\n\
                    - name: noted\n  state: { seen: { per: cpu } }\n  note: { at: 'kprobe:first', optional: true, set: { seen: 1 } }\n\
                    \x20 at: 'kprobe:second'\n  set: { seen: 0 }\n  metrics: [{ counter: noted_total, value: state.seen }]\n";
        let (file, diagnostics) = declaration::parse(&SourceFile::new("t", text));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let [cache, all, pair, noted] = file.probes.as_slice() else { panic!("{:?}", file.probes) };
        let refused = |probe: &Probe, place: &str| left_out(probe, place.into(), "it is refused".into());
        let next = refused(cache, "kprobe:second").unwrap();
        assert_eq!(points(&next), ["kprobe:first"]);
        let left_out: Vec<String> = next.left_out.iter().map(ToString::to_string).collect();
        assert_eq!(left_out, ["`kprobe:second` is optional and left out: it is refused"]);
        assert!(refused(cache, "kprobe:first").is_none(), "it is not optional");
        assert!(refused(cache, "kprobe:third").is_none(), "it is not there");
        let next = refused(all, "kprobe:first").unwrap();
        assert_eq!(points(&next), ["kprobe:second"]);
        assert!(refused(&next, "kprobe:second").is_none(), "nothing would be left");
        assert!(refused(pair, "kprobe:first").is_none(), "no start would be left");
        let next = refused(noted, "kprobe:first").unwrap();
        assert_eq!(points(&next), ["kprobe:second"], "an event that only changes the state");
    }
}
