//! Where packets can be seen: the interfaces of this network namespace, and the root of all cgroups.

use super::wanted::NameFilter;
use std::{fs, path::Path};
use tapster_ebpf::{
    attach::{self, Target},
    check,
    point::AttachPoint,
};

/// The places that are asked for and that this kernel has: all without a pattern, or those that have it in their name.
pub(super) fn asked(proc: &Path, target: &Target<'_>, pattern: Option<&str>) -> Vec<AttachPoint> {
    let table = fs::read_to_string(proc.join("self/net/dev")).unwrap_or_default();
    // Two lines of headings, then a line for each interface, which begins with its name.
    let interfaces = table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let mut points: Vec<AttachPoint> = interfaces.flat_map(|name| attach::packets_at(Some(name))).collect();
    points.extend(attach::packets_at(None));
    let wanted = pattern.map(NameFilter::new);
    points.retain(|point| wanted.as_ref().is_none_or(|wanted| wanted.means(&point.to_string())));
    points.retain(|point| check::describe(point, target).is_some());
    points
}
