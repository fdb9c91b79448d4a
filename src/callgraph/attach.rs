//! Loads and attaches the programs of a call graph.

use super::plan::Plan;
use crate::{
    follow::{self, FollowError, refused, task_offsets},
    load::places::{AttachMethod, Places, PlacesError},
    sys::{self, Ends, Map, PossibleCpus, ProgramKind, Ring, create_map, has_uprobe_multi},
};
use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};
use tapster_ebpf::{
    asm::{AsmError, Assembled},
    btf::Btf,
    callgraph::{self, FirstWord, LOST, LOST_PROCESSES, LOST_RECORDS, RING, Stacks},
};

/// Longest record, bytes.
const LONGEST: usize = 96;
/// Why the programs could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// A program could not be assembled, which is a bug of tapster.
    #[error(transparent)]
    Assemble(#[from] AsmError),
    /// The kernel refused something, or lacks it.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// The places could not be attached to.
    #[error("{0}: give a pattern that fewer functions match")]
    Places(#[from] PlacesError),
}

/// A call graph in the kernel. Dropping it detaches everything.
#[derive(Debug)]
pub struct AttachedGraph {
    /// The records.
    pub ring: Ring,
    /// How the probes were attached.
    pub method: AttachMethod,
    /// Functions with places that could not be attached to: index and error.
    pub refused: Vec<(usize, io::Error)>,
    lost: Map,
    _held: Vec<OwnedFd>,
}

/// Losses of records and processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records that did not fit into the ring.
    pub records: u64,
    /// Processes that were not followed.
    pub processes: u64,
}

struct Maker {
    maps: Vec<OwnedFd>,
    held: Vec<OwnedFd>,
}

impl Maker {
    fn maps(&self) -> Vec<BorrowedFd<'_>> {
        self.maps.iter().map(AsFd::as_fd).collect()
    }

    fn load(
        &self,
        name: &'static str,
        kind: ProgramKind,
        assembled: &Assembled,
    ) -> Result<OwnedFd, AttachError> {
        Ok(follow::load(name, kind, assembled, &self.maps())?)
    }

    fn raw_tracepoint(
        &mut self,
        name: &'static str,
        at: &'static CStr,
        assembled: &Assembled,
    ) -> Result<(), AttachError> {
        let held = follow::raw_tracepoint(name, at, assembled, &self.maps())?;
        self.held.extend(held);
        Ok(())
    }
}

/// Attaches to all places of a plan, ends before beginnings, by the best method from `from` on. From then on the children of
/// this process, and their children, are followed.
pub fn attach(
    plan: &Plan,
    btf: &Btf,
    ring_bytes: u32,
    from: AttachMethod,
) -> Result<AttachedGraph, AttachError> {
    // Needed before 5.11, where the kernel may refuse it; then making the maps reports it.
    let _ = sys::lift_memlock();
    let mut maker = Maker { maps: Vec::new(), held: Vec::new() };
    for map in callgraph::maps(ring_bytes) {
        let made = create_map(&map).map_err(refused(format!("the map `{}` could not be made", map.name)))?;
        maker.maps.push(made);
    }
    let task = task_offsets(btf)?;
    maker.raw_tracepoint("follow_exec", c"sched_process_exec", &callgraph::exec()?)?;
    maker.raw_tracepoint("follow_end", c"sched_process_exit", &callgraph::end()?)?;
    maker.raw_tracepoint("follow_free", c"sched_process_free", &callgraph::free(task)?)?;
    maker.raw_tracepoint("follow_fork", c"sched_process_fork", &callgraph::fork(task)?)?;
    // The file that was decoded is used, even if another has its name by now: in that one the places would be wrong.
    let opened = format!("/proc/self/fd/{}", plan.file.as_raw_fd());
    let path = CString::new(opened).map_err(|error| refused("the path")(io::Error::other(error)))?;
    let (method, refused_places) = probes(&mut maker, plan, &path, from)?;
    follow::register(&callgraph::register()?, &maker.maps())?;
    let cpus = PossibleCpus::of_host().map_err(refused("the number of CPUs"))?;
    let (ring, lost) = (fd(&maker.maps, RING), fd(&maker.maps, LOST));
    Ok(AttachedGraph {
        ring: Ring::open(ring, ring_bytes, LONGEST).map_err(refused("the ring"))?,
        lost: Map::open(lost, cpus).map_err(refused("the map of losses"))?,
        method,
        refused: refused_places,
        _held: maker.held.into_iter().chain(maker.maps).collect(),
    })
}

fn fd(maps: &[OwnedFd], index: u32) -> BorrowedFd<'_> {
    let index = usize::try_from(index).expect("an index of a map");
    maps[index].as_fd()
}

type RefusedPlaces = Vec<(usize, io::Error)>;

fn probes(
    maker: &mut Maker,
    plan: &Plan,
    path: &CStr,
    from: AttachMethod,
) -> Result<(AttachMethod, RefusedPlaces), AttachError> {
    let stacks = plan.stacks.unwrap_or(Stacks::Thread);
    let program = |is_entry: bool, word: FirstWord| {
        let (name, assembled) = if is_entry {
            ("call_entry", callgraph::entry(plan.arch, stacks, word)?)
        } else {
            ("call_exit", callgraph::exit(plan.arch, stacks, word)?)
        };
        Ok::<_, AttachError>((name, assembled))
    };
    let load = |maker: &Maker, kind, is_entry, word| {
        let (name, assembled) = program(is_entry, word)?;
        maker.load(name, kind, &assembled)
    };
    // A kernel that does not know the helper refuses the program; one without such links refuses the link.
    let multi = from == AttachMethod::Multi
        && load(maker, ProgramKind::UprobeMulti, false, FirstWord::Cookie)
            .is_ok_and(|program| has_uprobe_multi(program.as_fd()));
    let cookie =
        from != AttachMethod::Program && load(maker, ProgramKind::Probe, false, FirstWord::Cookie).is_ok();
    let (method, kind) = match (multi, cookie) {
        (true, _) => (AttachMethod::Multi, ProgramKind::UprobeMulti),
        (false, true) => (AttachMethod::Cookie, ProgramKind::Probe),
        (false, false) => (AttachMethod::Program, ProgramKind::Probe),
    };
    let mut refused_places = Vec::new();
    for (is_entry, list) in [(false, &plan.exits), (true, &plan.entries)] {
        let offsets = list.iter().map(|place| place.offset).collect();
        let words = list.iter().map(|place| place.word).collect();
        let places = Places::file(path.to_owned(), offsets, words, Ends::Entry);
        let held = if method == AttachMethod::Program {
            places.each_its_own(|word| load(maker, kind, is_entry, FirstWord::Fixed(word)))?
        } else {
            let shared = load(maker, kind, is_entry, FirstWord::Cookie)?;
            let held = if multi { places.link(shared.as_fd()) } else { places.each(shared.as_fd(), true) }?;
            maker.held.push(shared);
            held
        };
        refused_places.extend(held.refused.into_iter().map(|(index, error)| (list[index].function, error)));
        maker.held.extend(held.descriptors.into_iter().chain(held.programs));
    }
    Ok((method, refused_places))
}

impl AttachedGraph {
    /// The losses so far.
    pub fn losses(&self) -> io::Result<Losses> {
        let count = |index| follow::counter(&self.lost, index);
        Ok(Losses { records: count(LOST_RECORDS)?, processes: count(LOST_PROCESSES)? })
    }
}
