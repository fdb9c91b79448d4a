//! How the sources are built: rooms use each other in one direction, no file is too long to be read, no name stands for two
//! types, and unsafe code is in one crate. A room is a module at the top of a crate with all that is below it.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Most lines of a file.
const LONGEST: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of Rust below a directory, by their paths from the root.
fn sources(directory: &str) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![root().join(directory)]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The code of a file without comments and without its tests, which may use what they like.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// First names of what stands between braces: `a, b::{c, d}` are `a` and `b`.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut name) = (0, Vec::new(), String::new());
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut name)),
            _ if depth == 0 => name.push(character),
            _ => {}
        }
    }
    names.push(name);
    names.iter().map(|name| first_name(name)).filter(|name| !name.is_empty()).collect()
}

fn first_name(text: &str) -> String {
    let is_part = |character: &char| character.is_alphanumeric() || *character == '_';
    text.trim_start().chars().take_while(is_part).collect()
}

/// Names that code takes from the top of its crate.
fn used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (_, rest) in code.match_indices("crate::").map(|(at, word)| code.split_at(at + word.len())) {
        match rest.strip_prefix('{') {
            Some(group) => used.extend(first_names(group)),
            None => {
                used.insert(first_name(rest));
            }
        }
    }
    used
}

/// Which rooms of a crate each of its rooms uses.
fn rooms(of: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources(of) {
        let below = path.strip_prefix(of).unwrap();
        if below.components().any(|part| ["tests", "tests.rs"].iter().any(|tests| part.as_os_str() == *tests))
        {
            continue;
        }
        let room = below.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = room.trim_end_matches(".rs").to_owned();
        let used = used(&code(&fs::read_to_string(root().join(&path)).unwrap()));
        rooms.entry(room).or_default().extend(used);
    }
    let names: BTreeSet<String> = rooms.keys().cloned().collect();
    for (room, used) in &mut rooms {
        used.retain(|name| name != room && names.contains(name));
    }
    rooms
}

/// The rooms that a room leads to.
fn reached(rooms: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let (mut reached, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(room) = left.pop() {
        for next in &rooms[room] {
            if reached.insert(next.clone()) {
                left.push(next);
            }
        }
    }
    reached
}

/// Rooms that lead to each other.
fn circles(rooms: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<String>> =
        rooms.keys().map(|room| (room, reached(rooms, room))).collect();
    let in_circles = rooms.keys().filter(|room| reached[room].contains(*room));
    let circle = |room: &String| {
        let leads_back = |other: &&String| reached[room].contains(*other) && reached[*other].contains(room);
        rooms.keys().filter(leads_back).cloned().collect()
    };
    in_circles.map(circle).collect()
}

#[test]
fn rooms_use_each_other_in_one_direction() {
    for of in ["src", "ebpf/src", "sys/src"] {
        let rooms = rooms(of);
        assert!(rooms.len() > 10, "{of}: {rooms:?}");
        let inside = |circle: &[String], room: &String| {
            let inside = rooms[room].iter().filter(|used| circle.contains(used));
            format!("{room} -> {}", inside.cloned().collect::<Vec<_>>().join(", "))
        };
        let found = circles(&rooms);
        let edges = found.iter().flat_map(|circle| circle.iter().map(|room| inside(circle, room)));
        let edges: Vec<String> = edges.collect();
        assert!(edges.is_empty(), "{of}: rooms in circles:\n{}", edges.join("\n"));
    }
}

#[test]
fn rooms_of_the_compiler_are_in_the_order_that_is_documented() {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let (_, behind) = text.split_once("lowest first").unwrap();
    let lines = behind.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let lines = lines.take_while(|line| line.starts_with('|'));
    let order: Vec<&str> = lines
        .flat_map(|line| line.split('|').nth(1).unwrap().split(','))
        .map(|name| name.trim().trim_matches('`'))
        .collect();
    let mut rooms = rooms("ebpf/src");
    rooms.remove("lib");
    let all: BTreeSet<&str> = rooms.keys().map(String::as_str).collect();
    assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), all);
    for (at, room) in order.iter().enumerate() {
        for used in &rooms[*room] {
            assert!(
                order[..at].contains(&used.as_str()),
                "`{room}` uses `{used}`, which does not stand before it"
            );
        }
    }
}

#[test]
fn the_command_line_is_used_by_nobody() {
    let rooms = rooms("src");
    for (room, used) in rooms.iter().filter(|(room, _)| *room != "main") {
        assert!(!used.contains("cli"), "`{room}` uses the command line");
    }
    for room in ["server", "otlp", "source"] {
        let reached = reached(&rooms, room);
        assert!(!reached.contains("exporter") && !reached.contains("load"), "`{room}` leads to {reached:?}");
    }
}

#[test]
fn circles_are_found() {
    let rooms = |edges: &[(&str, &str)]| {
        let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            rooms.entry((*to).into()).or_default();
            rooms.entry((*from).into()).or_default().insert((*to).into());
        }
        rooms
    };
    assert!(circles(&rooms(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    let found = circles(&rooms(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]));
    assert_eq!(found, BTreeSet::from([vec!["b".to_owned(), "c".to_owned()]]));
    let text = "use crate::{a::{x, y}, b, c::z};\n// crate::not\nfn f() -> crate::d::D {}\n#[cfg(test)]\nmod tests {\n    use crate::e;\n}\n";
    let found: Vec<String> = used(&code(text)).into_iter().collect();
    assert_eq!(found, ["a", "b", "c", "d"]);
}

#[test]
fn no_file_is_too_long() {
    let mut found = Vec::new();
    for directory in ["src", "ebpf", "sys", "testing", "tests", "benches", "fuzz"] {
        for path in sources(directory) {
            let lines = fs::read_to_string(root().join(&path)).unwrap().lines().count();
            if lines > LONGEST {
                found.push(path.display().to_string());
            }
        }
    }
    assert!(found.is_empty(), "files of more than {LONGEST} lines: {found:?}");
}

/// Names of types and traits that code declares, outside of functions and implementations.
fn declared(code: &str) -> Vec<String> {
    let after_kind = |line: &str| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let line = if line.starts_with("pub(") { line.split_once(") ")?.1 } else { line };
        let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
        kinds.iter().find_map(|kind| line.strip_prefix(kind)).map(first_name)
    };
    code.lines().filter_map(after_kind).collect()
}

#[test]
fn a_name_stands_for_one_type() {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in ["src", "ebpf/src", "sys/src"].iter().flat_map(|directory| sources(directory)) {
        if path.iter().any(|part| ["tests", "tests.rs"].iter().any(|tests| part == *tests)) {
            continue;
        }
        for name in declared(&code(&fs::read_to_string(root().join(&path)).unwrap())) {
            files.entry(name).or_default().push(path.display().to_string());
        }
    }
    assert!(files.len() > 500, "{}", files.len());
    // Each kind of metrics has a type of its own by this name, which is that of the item of their trait.
    files.remove("Declared");
    files.retain(|_, files| files.len() > 1);
    assert!(files.is_empty(), "names with several meanings: {files:?}");
    let text = "pub(super) struct A<T>(T);\nenum B {\n    C,\n}\nimpl D for A {\n    type E = F;\n}\npub type G = A;\n";
    assert_eq!(declared(text), ["A", "B", "G"]);
}

#[test]
fn unsafe_code_is_in_one_crate() {
    for path in ["src/lib.rs", "src/main.rs", "ebpf/src/lib.rs"] {
        let text = fs::read_to_string(root().join(path)).unwrap();
        assert!(text.contains("\n#![forbid(unsafe_code)]\n"), "{path}");
    }
}
