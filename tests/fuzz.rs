//! A short run of the fuzz targets of bytes that others write.

#![expect(clippy::unwrap_used, reason = "a test stops where something is wrong")]

#[path = "../fuzz/foreign.rs"]
mod foreign;
#[path = "../fuzz/short.rs"]
mod short;

use short::run;

#[test]
fn elf() {
    run("elf", foreign::elf);
}

#[test]
fn names() {
    run("names", foreign::names);
}

#[test]
fn code() {
    run("code", foreign::code);
}

#[test]
fn libraries() {
    run("libraries", foreign::libraries);
}

#[test]
fn kernels() {
    run("kernels", foreign::kernels);
}

#[test]
fn maps() {
    run("maps", foreign::maps);
}

#[test]
fn containers() {
    run("containers", foreign::containers);
}

#[test]
fn labels() {
    run("labels", foreign::labels);
}

#[test]
fn accept() {
    run("accept", foreign::accept);
}

#[test]
fn imports() {
    run("imports", foreign::imports);
}
