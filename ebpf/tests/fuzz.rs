//! A short run of the fuzz targets of the compiler.

#![expect(clippy::unwrap_used, reason = "a test stops where something is wrong")]

#[path = "../../fuzz/short.rs"]
mod short;
#[path = "../../fuzz/targets.rs"]
mod targets;

use short::run;

#[test]
fn yaml() {
    run("yaml", targets::yaml);
}

#[test]
fn expression() {
    run("expression", targets::expression);
}

#[test]
fn btf() {
    run("btf", targets::btf);
}

#[test]
fn usdt() {
    run("usdt", targets::usdt);
}
