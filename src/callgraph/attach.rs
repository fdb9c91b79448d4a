//! The programs of a call graph brought into the kernel.

use super::plan::Plan;
use crate::{
    follow::{self, FollowError, refused, task_offsets},
    load::places::{Means, Places, PlacesError},
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
    callgraph::{self, LOST, LOST_PROCESSES, LOST_RECORDS, RING, Stacks, Word},
};

/// Longest record.
const LONGEST: usize = 96;
/// Why the programs did not get into the kernel.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// A program could not be assembled; our own mistake.
    #[error(transparent)]
    Assemble(#[from] AsmError),
    /// What the kernel refused, or does not have.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// The places.
    #[error("{0}: give a pattern that fewer functions match")]
    Places(#[from] PlacesError),
}

/// A call graph in the kernel. Dropping it detaches everything.
#[derive(Debug)]
pub struct Attached {
    /// The records.
    pub ring: Ring,
    /// How the probes were attached.
    pub means: Means,
    /// Functions of which some place could not be attached to, and why.
    pub refused: Vec<(usize, io::Error)>,
    lost: Map,
    _held: Vec<OwnedFd>,
}

/// What was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records that found no room in the ring.
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

/// Attaches to all that is planned, ends before beginnings, by the best means from `from` on. From then on children of this
/// process, and theirs, are followed.
pub fn attach(plan: &Plan, btf: &Btf, ring_bytes: u32, from: Means) -> Result<Attached, AttachError> {
    // Needed before 5.11, where it may be refused; then making the maps says so.
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
    // The file that was decoded, should another have its name by now: in that one the places would be wrong.
    let opened = format!("/proc/self/fd/{}", plan.file.as_raw_fd());
    let path = CString::new(opened).map_err(|error| refused("the path")(io::Error::other(error)))?;
    let (means, refused_places) = probes(&mut maker, plan, &path, from)?;
    follow::register(&callgraph::register()?, &maker.maps())?;
    let cpus = PossibleCpus::of_host().map_err(refused("the number of CPUs"))?;
    let (ring, lost) = (fd(&maker.maps, RING), fd(&maker.maps, LOST));
    Ok(Attached {
        ring: Ring::open(ring, ring_bytes, LONGEST).map_err(refused("the ring"))?,
        lost: Map::open(lost, cpus).map_err(refused("the map of losses"))?,
        means,
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
    from: Means,
) -> Result<(Means, RefusedPlaces), AttachError> {
    let stacks = plan.stacks.unwrap_or(Stacks::Thread);
    let program = |is_entry: bool, word: Word| {
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
    // A kernel that does not know the helper refuses the program, one without such links the link.
    let multi = from == Means::Multi
        && load(maker, ProgramKind::UprobeMulti, false, Word::Cookie)
            .is_ok_and(|program| has_uprobe_multi(program.as_fd()));
    let cookie = from != Means::Program && load(maker, ProgramKind::Probe, false, Word::Cookie).is_ok();
    let (means, kind) = match (multi, cookie) {
        (true, _) => (Means::Multi, ProgramKind::UprobeMulti),
        (false, true) => (Means::Cookie, ProgramKind::Probe),
        (false, false) => (Means::Program, ProgramKind::Probe),
    };
    let mut refused_places = Vec::new();
    for (is_entry, list) in [(false, &plan.exits), (true, &plan.entries)] {
        let offsets = list.iter().map(|place| place.offset).collect();
        let words = list.iter().map(|place| place.word).collect();
        let places = Places::file(path.to_owned(), offsets, words, Ends::Entry);
        let held = if means == Means::Program {
            places.each_its_own(|word| load(maker, kind, is_entry, Word::Fixed(word)))?
        } else {
            let shared = load(maker, kind, is_entry, Word::Cookie)?;
            let held = if multi { places.link(shared.as_fd()) } else { places.each(shared.as_fd(), true) }?;
            maker.held.push(shared);
            held
        };
        refused_places.extend(held.refused.into_iter().map(|(index, error)| (list[index].function, error)));
        maker.held.extend(held.descriptors.into_iter().chain(held.programs));
    }
    Ok((means, refused_places))
}

impl Attached {
    /// What was lost up to now.
    pub fn losses(&self) -> io::Result<Losses> {
        let count = |index| follow::counter(&self.lost, index);
        Ok(Losses { records: count(LOST_RECORDS)?, processes: count(LOST_PROCESSES)? })
    }
}
