//! The version and build of this program. `build.rs` at the top of the sources determines them.

/// Its version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit; empty if it is unknown, as for sources without their history, and in development.
const COMMIT: &str = env!("TAPSTER_COMMIT");
/// The target.
pub(super) const TARGET: &str = env!("TAPSTER_TARGET");
/// The compiler, with its version.
pub(super) const COMPILER: &str = env!("TAPSTER_COMPILER");
/// All of this, as `tapster --version` prints it.
pub(super) const LONG: &str = env!("TAPSTER_VERSION");

/// The commit, if it is known.
pub(super) fn commit() -> Option<&'static str> {
    (!COMMIT.is_empty()).then_some(COMMIT)
}
