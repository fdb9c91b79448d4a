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
    point::{AttachPoint, Subject},
    probe::Probe,
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

    /// Goes on to the next alternative. Fails with why the probe is down if there is none.
    pub(super) fn pass_over(&mut self, refused: &LoadError) -> Result<(), Down> {
        let next = refused.place().and_then(|place| Some((place.to_owned(), without(&self.probe, place)?)));
        let Some((place, probe)) = next else { return Err(self.down(refused.down())) };
        self.passed.push(format!("`{place}` is passed over for the next alternative: {refused}"));
        self.probe = probe;
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
                    - name: cycles\n  at: ['hardware:cpu-cycles:100000', 'profile:hz:99']\n  metrics: [{ counter: cycles_total }]\n";
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
}
