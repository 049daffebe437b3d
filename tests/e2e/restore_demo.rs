//! The demo keeps what it says: it runs to its end and leaves nothing behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Workdir, run};

#[tokio::test]
async fn the_demo_brings_back_what_it_lost_and_leaves_nothing_behind() {
    let workdir = Workdir::new("demo");
    let place = workdir.subdirectory("place");
    // As whoever runs the tests: root, too, must be able to see it.
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgkeep"));
    command.args(["demo", "--json"]).env("TMPDIR", &place);
    let output = run(command).await.expect_success();
    let told: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(told["ok"], true, "{told}");
    let content = told["content"].as_str().unwrap();
    let rows: u32 = content.split(' ').next().unwrap().parse().unwrap();
    assert!(rows > 0, "{told}");
    for measured in ["rpo_seconds", "restore_seconds"] {
        assert!(told[measured].as_f64().is_some_and(|seconds| seconds > 0.0), "{told}");
    }
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "a directory was left behind");
    let left = processes_in(&place);
    assert!(left.is_empty(), "still running: {left:?}");
    println!("{told}");
}

/// Command lines of the processes that work in `place` or name it.
fn processes_in(place: &Path) -> Vec<String> {
    let place = place.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let works_in = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            (works_in.starts_with(place) || command.contains(place)).then_some(command)
        })
        .collect()
}
