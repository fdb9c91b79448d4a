//! What the kernel can walk over.

use super::wanted::NameFilter;
use tapster_ebpf::{
    attach::{self, Target},
    point::AttachPoint,
};

/// The kinds of objects that are asked for: all without a pattern, `iter:PATTERN`, or those that have it in their name.
pub(super) fn asked(target: &Target<'_>, pattern: Option<&str>) -> Vec<AttachPoint> {
    let points = attach::objects(target).into_iter().map(attach::objects_of);
    let Some(pattern) = pattern else { return points.collect() };
    let wanted = NameFilter::new(pattern);
    points.filter(|point| wanted.means(&point.to_string())).collect()
}
