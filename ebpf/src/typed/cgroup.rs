//! `cgroup_matches`: whether a cgroup is one that a pattern names, or below one.

use super::Typed;
use crate::glob::PathGlob;

/// The question of a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupTest {
    /// The number by which the answer is remembered: the hierarchy in the upper 16 bits, and the id, which is never reused in
    /// it. 0 is no cgroup.
    pub key: Typed,
    /// The address of the `struct cgroup`, as a number.
    pub cgroup: Typed,
    /// Where its name and those of the cgroups above it are.
    pub offsets: CgroupOffsets,
    /// The pattern.
    pub pattern: PathGlob,
}

/// Byte offsets of the members that lead to a cgroup's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupOffsets {
    /// `cgroup.level`: 0 of the root.
    pub level: u32,
    /// `cgroup.self.parent`: the state of the cgroup above it, 0 of the root.
    pub parent: u32,
    /// `cgroup_subsys_state.cgroup`: the cgroup of that state.
    pub cgroup: u32,
    /// `cgroup.kn`: the node of its directory.
    pub node: u32,
    /// `kernfs_node.name`: the directory's name.
    pub name: u32,
    /// `cgroup.ancestors`: those above it and itself, by their level, 6.1.
    pub ancestors: Option<u32>,
}
