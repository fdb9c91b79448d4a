//! Grafana's own types of dashboards.

use crate::support::{
    cases::{Outcome, Skip},
    command::{self, output},
    fixture, queries,
};
use std::{fs, path::Path, process::Command};

/// A Python with Grafana's Foundation SDK.
fn python() -> Result<Command, Skip> {
    command::python("grafana_foundation_sdk", "`grafana-foundation-sdk`")
}

/// By Grafana's own types; and a mistake in each kind of place is seen.
pub(super) fn schema() -> Outcome {
    python()?;
    let script = fixture::file("dashboards/schema.py");
    let check = |file: &Path| {
        let output = output(python()?.arg(&script).arg(file));
        Ok::<_, Skip>((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    for file in queries::dashboard_files() {
        let (passes, said) = check(&file)?;
        assert!(passes, "{said}");
    }
    let files = queries::dashboard_files();
    let raid = files.iter().find(|file| file.ends_with("raid.json")).unwrap();
    let text = fs::read_to_string(raid).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let changed = directory.path().join("changed.json");
    for (from, to) in [
        ("\"cellGap\":", "\"cellGapp\":"),
        ("\"drawStyle\": \"line\"", "\"drawStyle\": \"lime\""),
        ("\"decimals\": 1", "\"decimals\": \"one\""),
        ("\"refresh\": 2", "\"refresh\": 7"),
        ("\"unit\": \"iops\"", "\"unit\": \"iopps\""),
        ("\"w\": 8", "\"ww\": 8"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&changed, text.replacen(from, to, 1)).unwrap();
        let (passes, said) = check(&changed)?;
        assert!(!passes, "{to} passes");
        assert!(said.lines().count() <= 2, "{to}: {said}");
    }
    Ok("as Grafana's types say; six mistakes seen".into())
}
