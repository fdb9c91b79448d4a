//! Sums over calls: by function, and by chain of callers.

use std::collections::HashMap;

/// Most nodes of the tree of calls; later ones are added to the call around them.
const MOST_NODES: usize = 1 << 20;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It returned.
    Returned,
    /// Its thread ended inside it, or executed another program.
    Ended,
    /// `longjmp` or an exception left it.
    Unwound,
    /// It was left by a jump, or in one of the above ways: it has exits that are not probed.
    Jumped,
    /// Its returns are not probed.
    NotTaken,
    /// It has not ended yet.
    Running,
}

/// Sums of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Number of calls.
    pub calls: u64,
    /// Calls whose end is known, by a return or because the thread ended.
    pub timed: u64,
    /// Time in these; a call inside another of the same function counts once.
    pub total_ns: u64,
    /// That time without the calls that they made.
    pub self_ns: u64,
    /// Sum of the times of all these calls, for the average.
    pub sum_ns: u64,
    /// Longest time.
    pub max_ns: u64,
}

/// Calls without a return line, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unreturned {
    /// See [`Ending`].
    pub ended: u64,
    /// See [`Ending`].
    pub unwound: u64,
    /// See [`Ending`].
    pub jumped: u64,
    /// See [`Ending`].
    pub not_taken: u64,
    /// See [`Ending`].
    pub running: u64,
}

#[derive(Debug)]
struct CallNode {
    outer: Option<usize>,
    function: usize,
    self_ns: u64,
}

/// All sums.
#[derive(Debug)]
pub struct Summary {
    /// Sums by function.
    pub functions: Vec<Sums>,
    /// Calls without a return line.
    pub unreturned: Unreturned,
    /// Returns whose entry was not seen.
    pub without_entry: u64,
    nodes: Vec<CallNode>,
    known: HashMap<(Option<usize>, usize), usize>,
}

impl Summary {
    pub(super) fn new(functions: usize) -> Self {
        Self {
            functions: vec![Sums::default(); functions],
            unreturned: Unreturned::default(),
            without_entry: 0,
            nodes: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// The node of a function called from another node.
    pub(super) fn node(&mut self, outer: Option<usize>, function: usize) -> usize {
        if let Some(node) = self.known.get(&(outer, function)) {
            return *node;
        }
        if self.nodes.len() >= MOST_NODES
            && let Some(outer) = outer
        {
            return outer;
        }
        self.nodes.push(CallNode { outer, function, self_ns: 0 });
        self.known.insert((outer, function), self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    pub(super) fn begin(&mut self, function: usize) {
        self.functions[function].calls += 1;
    }

    pub(super) fn end(
        &mut self,
        function: usize,
        node: usize,
        ending: Ending,
        duration_ns: u64,
        self_ns: u64,
        is_outermost: bool,
    ) {
        self.nodes[node].self_ns += self_ns;
        match ending {
            Ending::Returned => {}
            Ending::Ended => self.unreturned.ended += 1,
            Ending::Unwound => self.unreturned.unwound += 1,
            Ending::Jumped => self.unreturned.jumped += 1,
            Ending::NotTaken => self.unreturned.not_taken += 1,
            Ending::Running => self.unreturned.running += 1,
        }
        if matches!(ending, Ending::Returned | Ending::Ended) {
            let sums = &mut self.functions[function];
            sums.timed += 1;
            sums.total_ns += if is_outermost { duration_ns } else { 0 };
            sums.self_ns += self_ns;
            sums.sum_ns += duration_ns;
            sums.max_ns = sums.max_ns.max(duration_ns);
        }
    }

    /// Functions that were called, those with the longest total first; of equal ones, those called most.
    pub fn by_total(&self) -> Vec<(usize, &Sums)> {
        let mut called: Vec<(usize, &Sums)> =
            self.functions.iter().enumerate().filter(|(_, sums)| sums.calls > 0).collect();
        called.sort_by_key(|(index, sums)| (std::cmp::Reverse((sums.total_ns, sums.calls)), *index));
        called
    }

    /// Each chain of calls, outermost first, with the time in its innermost function alone.
    pub fn chains(&self) -> impl Iterator<Item = (Vec<usize>, u64)> + '_ {
        self.nodes.iter().filter(|node| node.self_ns > 0).map(|node| {
            let mut chain = vec![node.function];
            let mut outer = node.outer;
            while let Some(index) = outer {
                chain.push(self.nodes[index].function);
                outer = self.nodes[index].outer;
            }
            chain.reverse();
            (chain, node.self_ns)
        })
    }
}
