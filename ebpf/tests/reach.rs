//! What is too far away for an instruction is refused, and nothing else is read in its place.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{btf::Builder, case, world::World};
use tapster_ebpf::{attach::Target, btf::Btf, check, tracefs::Tracepoints};

/// A record and a type of the kernel that are larger than any is.
struct Vast(Btf, World);

impl Tracepoints for Vast {
    fn format(&self, _: &str, name: &str) -> Option<String> {
        let fields = "\tfield:long near;\toffset:32752;\tsize:8;\tsigned:1;
\tfield:long far;\toffset:40000;\tsize:8;\tsigned:1;
\tfield:char text[16];\toffset:40008;\tsize:16;\tsigned:0;
\tfield:__data_loc char[] moved;\toffset:40024;\tsize:4;\tsigned:0;
\tfield:long many[8192];\toffset:16;\tsize:65536;\tsigned:1;
";
        Some(if name == "record" { fields.into() } else { String::new() })
    }

    fn all(&self) -> Vec<(String, String)> {
        vec![("test".into(), "record".into()), ("test".into(), "vast".into())]
    }
}

impl Vast {
    fn new() -> Self {
        let mut types = Builder::new();
        let char_ = types.int("char", 1, true);
        let int = types.int("unsigned int", 4, false);
        let text = types.array(char_, int, 12);
        let pointer = types.pointer(int);
        let far = 0x80_0000;
        let part = types.structure(
            "part",
            0x7fff_ff00,
            &[
                ("near", pointer, 64, 0),
                ("next", pointer, far, 0),
                ("text", text, far + 64, 0),
                ("number", int, far + 256, 0),
            ],
        );
        let parts = types.array(part, int, 2);
        let vast = types.structure("vast", 0xffff_fe00, &[("parts", parts, 0, 0)]);
        let vast = types.pointer(vast);
        types.tracepoint("vast", &[("vast", vast)]);
        Self(Btf::parse(types.finish()).unwrap(), World::new())
    }

    /// What is said of a label with this value.
    fn refusal(&self, at: &str, value: &str) -> Option<String> {
        let target = Target { btf: Some(&self.0), tracepoints: self, ..self.1.target(2) };
        let yaml = format!(
            "probes:\n  - name: case\n    at: {at}\n    labels: {{ x: \"{value}\" }}\n    metrics: [{{ counter: case_total }}]\n"
        );
        check::check(&case::parse(&yaml).unwrap(), &target).err().map(|found| found[0].message.clone())
    }
}

#[test]
fn members_that_are_too_far_are_refused() {
    let vast = Vast::new();
    let at = "rawtracepoint:test:vast";
    for near in ["parts[1].near", "parts[0].next", "parts[0].text", "parts[0].number"] {
        assert_eq!(vast.refusal(at, &format!("args.vast.{near}")), None, "{near}");
    }
    for far in ["next", "text", "number"] {
        let far = format!("args.vast.parts[1].{far}");
        let message = format!("`{far}` is more than 2 GiB from where its pointer leads");
        assert_eq!(vast.refusal(at, &far), Some(message));
    }
}

#[test]
fn fields_that_are_too_far_are_refused() {
    let vast = Vast::new();
    let at = "tracepoint:test:record";
    assert_eq!(vast.refusal(at, "args.near"), None);
    for (far, name) in [("far", "far"), ("text", "text"), ("moved", "moved"), ("many[8000]", "many")] {
        let message = format!("the argument `{name}` cannot be read");
        assert_eq!(vast.refusal(at, &format!("args.{far}")), Some(message));
    }
}
