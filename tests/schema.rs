//! The schema for editors, the files of this repository and the reader of them say the same.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use jsonschema::Validator;
use serde_json::{Map, Number, Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};
use support::{exporter::binary, fixture};
use tapster_ebpf::{
    declaration,
    diagnostic::SourceFile,
    yaml::{self, Data, Node},
};

/// As `tapster schema` prints it.
fn schema() -> Value {
    let output = binary().arg("schema").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A YAML tree by the core schema of YAML 1.2, which editors go by; our own reader takes scalars for text.
fn json(node: &Node) -> Value {
    match &node.data {
        Data::Sequence(items) => items.iter().map(json).collect(),
        Data::Mapping(entries) => {
            let text = |key: &Node| match &key.data {
                Data::Scalar { text, .. } => text.clone(),
                Data::Sequence(_) | Data::Mapping(_) => panic!("a key that is no scalar"),
            };
            entries.iter().map(|(key, value)| (text(key), json(value))).collect::<Map<_, _>>().into()
        }
        Data::Scalar { text, quoted: true } => text.clone().into(),
        Data::Scalar { text, quoted: false } => plain(text),
    }
}

fn plain(text: &str) -> Value {
    let number = text.strip_prefix('+').unwrap_or(text);
    let digits = number.strip_prefix('-').unwrap_or(number);
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.parse::<i64>().map_or_else(|_| text.into(), Value::from);
    }
    if let Some(value) = text.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
        return value.into();
    }
    let may_be_float = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    number
        .parse::<f64>()
        .ok()
        .filter(|_| {
            may_be_float && digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte))
        })
        .and_then(Number::from_f64)
        .map_or_else(|| text.into(), Value::from)
}

fn read(path: &Path) -> Value {
    let file = SourceFile::new(path.display().to_string(), fs::read_to_string(path).unwrap());
    json(&yaml::parse(&file).unwrap().unwrap())
}

/// Every file that must be right: the shipped ones, those of the tests, and those for a fuzzer to begin with.
fn good_files() -> Vec<PathBuf> {
    let mut files = fixture::yaml_files("probes");
    for directory in ["../config", "../config/probes", "../config/reasons", "../fuzz/seeds/yaml", "golden"] {
        if fixture::file(directory).is_dir() {
            files.extend(fixture::yaml_files(directory));
        }
    }
    files
}

fn mistakes(validator: &Validator, value: &Value) -> Vec<String> {
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn every_file_is_what_the_schema_describes() {
    let schema = schema();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for path in good_files() {
        let found = mistakes(&validator, &read(&path));
        assert!(found.is_empty(), "{}:\n{}", path.display(), found.join("\n"));
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses_by_form() {
    let schema = schema();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for name in ["unknown_keys", "wrong_forms", "names"] {
        let path = fixture::file(format!("errors/{name}.yaml"));
        assert!(!mistakes(&validator, &read(&path)).is_empty(), "{name}");
    }
}

/// Every mapping of the schema with the keys that lead to it.
fn mappings<'s>(schema: &'s Value, path: &[String], found: &mut Vec<(Vec<String>, &'s Map<String, Value>)>) {
    if let Some(properties) = schema["properties"].as_object() {
        found.push((path.to_vec(), properties));
        for (key, inner) in properties {
            mappings(inner, &[path, std::slice::from_ref(key)].concat(), found);
        }
    }
    for inner in [&schema["items"], &schema["additionalProperties"]] {
        if inner.is_object() {
            mappings(inner, path, found);
        }
    }
    for inner in schema["anyOf"].as_array().into_iter().flatten() {
        mappings(inner, path, found);
    }
}

/// A mapping with one key, at the place that `path` leads to.
fn nested(path: &[String], key: &str) -> Value {
    let mut value = json!({ key: null });
    for step in path.iter().rev() {
        value = match step.as_str() {
            // What is said of a probe has the keys of probes, but not their lists.
            "overrides" => json!({ step.as_str(): { "block": value } }),
            _ if path[0] == "overrides" => json!({ step.as_str(): value }),
            "probes" | "events" | "metrics" | "reasons" | "device_groups" => {
                json!({ step.as_str(): [value] })
            }
            "labels" | "state" => json!({ step.as_str(): { "name": value } }),
            _ => json!({ step.as_str(): value }),
        };
    }
    value
}

/// `null` stands for "not given", so only the key itself is looked at.
#[test]
fn the_reader_takes_every_key_of_the_schema_and_no_other() {
    let schema = schema();
    let mut found = Vec::new();
    mappings(&schema, &[], &mut found);
    assert!(found.len() >= 8, "{found:?}");
    let unknown = |path: &[String], key: &str| {
        let text = nested(path, key).to_string();
        let (_, diagnostics) = declaration::parse(&SourceFile::new("t", text));
        diagnostics.iter().any(|diagnostic| diagnostic.message.contains(&format!("has no key `{key}`")))
    };
    for (path, properties) in found {
        // `buckets` are read when their unit is known, which takes a kernel; `tests/errors` has them.
        if path.iter().any(|step| step == "buckets") {
            continue;
        }
        for key in properties.keys() {
            assert!(!unknown(&path, key), "{path:?}: the reader does not know `{key}`");
            assert!(
                properties[key]["description"]
                    .as_str()
                    .is_some_and(|text| text.ends_with('.') || text.contains(". ")),
                "{path:?} {key}"
            );
        }
        // Any other key below `as` is that of a table; `tests/errors` has what its other forms refuse.
        if path.last().is_some_and(|step| step == "as") {
            continue;
        }
        assert!(unknown(&path, "no_such_key"), "{path:?}: the reader takes any key");
    }
}
