//! Golden texts: reviewed once, and compared since.

use super::fixture;
use std::fs;

/// If this variable is set, the new text replaces the expected one.
const ACCEPT: &str = "TAPSTER_ACCEPT";

/// Texts compared so far; differences are collected, so that one run shows all.
#[derive(Debug)]
pub struct Golden {
    test: &'static str,
    wrong: Vec<String>,
}

impl Golden {
    /// For the test with this name, as for `cargo test --test`.
    pub fn new(test: &'static str) -> Self {
        Self { test, wrong: Vec::new() }
    }

    /// Compares with `tests/PATH`.
    pub fn compare(&mut self, path: &str, found: &str) {
        let place = fixture::file(path);
        if std::env::var_os(ACCEPT).is_some_and(|value| !value.is_empty()) {
            fs::write(&place, found).unwrap();
            return;
        }
        let expected = fs::read_to_string(&place).unwrap_or_default();
        if expected == found {
            return;
        }
        let first = pairs(&expected, found).enumerate().find(|(_, (expected, found))| expected != found);
        let (number, (expected, found)) = first.unwrap_or_default();
        let difference = format!(
            "tests/{path}:{}:\n- {}\n+ {}\n",
            number + 1,
            expected.unwrap_or_default(),
            found.unwrap_or_default()
        );
        self.wrong.push(difference);
    }

    /// Adds another failure, which accepting does not fix.
    pub fn fail(&mut self, message: String) {
        self.wrong.push(message);
    }

    pub fn finish(self) {
        let Self { test, wrong } = self;
        assert!(
            wrong.is_empty(),
            "{}\nif that is what is wanted: {ACCEPT}=1 cargo test --test {test}, and look at the diff",
            wrong.join("\n")
        );
    }
}

/// Lines of both texts side by side.
fn pairs<'a>(a: &'a str, b: &'a str) -> impl Iterator<Item = (Option<&'a str>, Option<&'a str>)> {
    let (mut a, mut b) = (a.lines(), b.lines());
    std::iter::from_fn(move || match (a.next(), b.next()) {
        (None, None) => None,
        pair => Some(pair),
    })
}
