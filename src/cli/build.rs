//! What this program was built from, and by what. `build.rs` at the top of the sources finds it out.

/// Its version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit; empty where it is not known, as of sources that came without their history, and in development.
const COMMIT: &str = env!("TAPSTER_COMMIT");
/// What it was built for.
pub(super) const TARGET: &str = env!("TAPSTER_TARGET");
/// The compiler, with its version.
pub(super) const COMPILER: &str = env!("TAPSTER_COMPILER");
/// All of it, as `tapster --version` shows it.
pub(super) const LONG: &str = env!("TAPSTER_VERSION");

/// The commit, where it is known.
pub(super) fn commit() -> Option<&'static str> {
    (!COMMIT.is_empty()).then_some(COMMIT)
}
