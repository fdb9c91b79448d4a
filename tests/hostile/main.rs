//! What others do to the exporter, and days on which the host fails it.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

mod arrays;
mod asker;
mod bytes;
mod cgroup;
mod clients;
mod crowd;
mod days;
mod files;
mod injection;
mod soak;
