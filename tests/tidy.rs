//! The house rules that no compiler knows, checked on the sources themselves.
//!
//! It reads every file of the project as text and finishes in well under a second. A rule that
//! turns out to be wrong is changed here and in `docs/style.md`, not worked around.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Words too vague to be the whole name of a file or a folder.
const VAGUE_NAMES: [&str; 11] = [
    "manager", "handler", "helper", "util", "common", "base", "core", "data", "info", "process",
    "misc",
];

/// The crates of the house and those of them that each may use.
const LAYERS: [(&str, &[&str]); 4] = [
    ("proto", &[]),
    ("catalog", &["pgkeep-proto"]),
    ("archiver", &["pgkeep-proto", "pgkeep-catalog"]),
    ("restorer", &["pgkeep-proto", "pgkeep-catalog"]),
];

/// What `proto` must do without: sockets, files, threads, processes and clocks.
const OUTSIDE_WORLD: [&str; 6] =
    ["std::net", "std::fs", "std::thread", "std::process", "SystemTime", "Instant"];

/// What `proto` must not depend on.
const RUNTIME_CRATES: [&str; 8] =
    ["tokio", "tokio-util", "tokio-postgres", "mio", "rustix", "libc", "socket2", "tracing"];

/// What the store may use of its crate.
const STORE_MAY_USE: [&str; 9] = [
    "store",
    "error",
    "durable",
    "Error",
    "Result",
    "Cause",
    "Clock",
    "SystemClock",
    "ManualClock",
];

/// Types that `docs/glossary.md` explains as soon as they exist.
const CENTRAL_TYPES: [&str; 29] = [
    "Lsn",
    "TimelineId",
    "TimelineHistory",
    "SegmentName",
    "SegmentSize",
    "SystemId",
    "XLogData",
    "Repository",
    "Cluster",
    "Piece",
    "Inventory",
    "Gap",
    "Coverage",
    "BackupId",
    "BackupManifest",
    "Run",
    "RetentionPolicy",
    "RetentionPlan",
    "WriterEpoch",
    "Store",
    "ObjectKey",
    "Receiver",
    "Spool",
    "Shipper",
    "Progress",
    "ReplicationSlot",
    "RecoveryTarget",
    "TimelinePath",
    "RestorePlan",
];

/// One file of the project.
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".rs").unwrap_or(name)
    }

    fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Whether it is part of what runs at a customer's.
    fn is_product(&self) -> bool {
        !["tests", "bench"].iter().any(|first| self.path.starts_with(&format!("{first}/")))
    }

    /// Whether cargo starts a crate with it.
    fn is_crate_root(&self) -> bool {
        let is_named = ["lib", "main", "build", "tidy"].contains(&self.stem());
        is_named || is_free_standing(self.folder())
    }

    /// Numbered lines before the unit tests, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.lines().position(|line| line == "#[cfg(test)]");
        self.text
            .lines()
            .take(tests.unwrap_or(usize::MAX))
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Places in the code that hold one of `words`.
    fn places(&self, words: &[&str]) -> Vec<String> {
        self.code()
            .filter_map(|(number, line)| {
                let word = words.iter().find(|word| line.contains(**word))?;
                Some(format!("{}:{number}: {word}", self.path))
            })
            .collect()
    }
}

/// Whether cargo takes each file of this folder for a crate.
fn is_free_standing(folder: &str) -> bool {
    folder.split('/').any(|name| ["bin", "benches", "examples", "fuzz_targets"].contains(&name))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files of the project with this extension; a check that finds none has nothing to check.
fn files(extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root(), extension, &mut found);
    assert!(!found.is_empty(), "no .{extension} file under {}", root().display());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "pgkeep.state" {
                collect(&path, extension, found);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
}

/// Fails with all findings at once.
fn none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// What a Markdown text has between backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_source_file_says_first_what_it_is() {
    let findings: Vec<String> = files("rs")
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.path.clone())
        .collect();
    none("a file starts with a //! line", &findings);
}

#[test]
fn every_folder_has_a_front_door_and_every_file_is_announced_there() {
    let files = files("rs");
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !file.is_crate_root()) {
        let is_door = file.stem() == "mod";
        let (name, folder) = match file.folder().rsplit_once('/') {
            Some((above, name)) if is_door => (name, above),
            _ => (file.stem(), file.folder()),
        };
        let doors = ["mod.rs", "lib.rs", "main.rs"].map(|door| format!("{folder}/{door}"));
        match files.iter().find(|door| doors.contains(&door.path)) {
            None => findings.push(format!("{folder} has no mod.rs, lib.rs or main.rs")),
            Some(door) if !announces(door, name) => {
                findings.push(format!("{} has no `mod {name};`: {}", door.path, file.path));
            }
            Some(_) => {}
        }
    }
    none("a file is reached through the front door of its folder", &findings);
}

fn announces(door: &Source, name: &str) -> bool {
    let line_end = format!("mod {name};");
    door.text.lines().map(str::trim).any(|line| {
        line.strip_suffix(&line_end).is_some_and(|before| {
            before.is_empty() || (before.starts_with("pub") && before.ends_with(' '))
        })
    })
}

#[test]
fn no_file_or_folder_has_a_vague_name() {
    let findings: Vec<String> = files("rs")
        .iter()
        .map(|file| file.path.trim_end_matches(".rs").to_owned())
        .filter(|path| path.split('/').any(|name| VAGUE_NAMES.contains(&name)))
        .collect();
    none("a name says what is inside", &findings);
}

#[test]
fn nothing_is_left_for_later_without_an_issue() {
    // Put together here, so that this file does not find itself.
    let (fix, later, debug) = (concat!("FIX", "ME"), concat!("TO", "DO"), concat!("dbg", "!("));
    let mut findings = Vec::new();
    for file in files("rs") {
        for (index, line) in file.text.lines().enumerate() {
            let names_issue =
                line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            let is_loose = words(line).any(|word| word == later) && !names_issue;
            if line.contains(fix) || line.contains(debug) || is_loose {
                findings.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    none("what is left for later names its issue, as in #57", &findings);
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let mut findings = Vec::new();
    for (name, allowed) in LAYERS {
        let manifest = read(&format!("{name}/Cargo.toml"));
        findings.extend(
            dependencies(&manifest)
                .filter(|used| used.starts_with("pgkeep-") && !allowed.contains(used))
                .map(|used| format!("{name} uses {used}")),
        );
    }
    none("a crate uses only the crates below it", &findings);
}

#[test]
fn proto_knows_no_socket_clock_or_runtime() {
    let manifest = read("proto/Cargo.toml");
    let mut findings: Vec<String> = dependencies(&manifest)
        .filter(|used| RUNTIME_CRATES.contains(used))
        .map(|used| format!("proto/Cargo.toml: {used}"))
        .collect();
    for file in files("rs").iter().filter(|file| file.path.starts_with("proto/src/")) {
        findings.extend(file.places(&OUTSIDE_WORLD));
    }
    none("proto turns bytes into facts, and does nothing else", &findings);
}

/// Names under `[dependencies]`; those for tests and builds are free.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty()))
}

#[test]
fn the_store_does_not_know_the_repository() {
    let mut findings = Vec::new();
    for file in files("rs").iter().filter(|file| file.path.starts_with("catalog/src/store/")) {
        let code: String = file.code().flat_map(|(_, line)| [line, "\n"]).collect();
        for path in code.split("crate::").skip(1) {
            let strange = names_taken(path).find(|name| !STORE_MAY_USE.contains(name));
            findings.extend(strange.map(|name| format!("{}: crate::{name}", file.path)));
        }
    }
    none("catalog/src/store keeps bytes and knows no repository", &findings);
}

/// First names of what follows `crate::`, one path or a group of them in braces.
fn names_taken(path: &str) -> impl Iterator<Item = &str> {
    let (group, is_group) = path.strip_prefix('{').map_or((path, false), |group| (group, true));
    let mut depth = 0;
    let end = group.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth < 0 || c == ';'
    });
    let group = &group[..end.unwrap_or(group.len())];
    let mut depth = 0;
    let paths = group.split(move |c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    paths
        .take(if is_group { usize::MAX } else { 1 })
        .filter_map(|path| words(path.trim_start()).next().filter(|name| !name.is_empty()))
}

#[test]
fn only_durable_makes_files_durable() {
    let acts = ["fs::rename(", "renameat", ".sync_all(", ".sync_data(", "fsync(", "fdatasync("];
    let findings: Vec<String> = files("rs")
        .iter()
        .filter(|file| file.is_product() && file.path != "catalog/src/durable.rs")
        .flat_map(|file| file.places(&acts))
        .collect();
    none("only catalog/src/durable.rs renames and syncs", &findings);
}

#[test]
fn only_layout_builds_keys() {
    let prefixes = ["\"wal/", "\"pieces/", "\"backups/", "\"history/", "\"gaps/", "\"epoch/"];
    let findings: Vec<String> = files("rs")
        .iter()
        .filter(|file| file.is_product() && file.path != "catalog/src/layout.rs")
        .flat_map(|file| file.places(&prefixes))
        .collect();
    none("only catalog/src/layout.rs builds and parses keys", &findings);
}

#[test]
fn every_field_of_the_configuration_is_documented() {
    let manual = read("docs/config.md");
    let documented: BTreeSet<&str> =
        quoted(&manual).into_iter().flat_map(|name| name.rsplit('.').next()).collect();
    let fields: Vec<(String, String)> = files("rs")
        .iter()
        .filter(|file| file.is_product())
        .flat_map(|file| config_fields(&file.text).into_iter().map(|f| (file.path.clone(), f)))
        .collect();
    assert!(!fields.is_empty(), "no struct has deny_unknown_fields: there is no configuration");
    let findings: Vec<String> = fields
        .iter()
        .filter(|(_, field)| !documented.contains(field.as_str()))
        .map(|(path, field)| format!("`{field}` of {path}"))
        .collect();
    none("docs/config.md names every field in backticks", &findings);
}

/// Fields of the structs that refuse unknown ones: only a configuration does.
fn config_fields(text: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut lines = text.lines();
    while lines.any(|line| line.starts_with('#') && line.contains("deny_unknown_fields")) {
        let mut renamed = None;
        for line in lines.by_ref().take_while(|line| *line != "}") {
            let line = line.trim();
            if let Some((_, rest)) = line.split_once("rename = \"") {
                renamed = rest.split('"').next().map(str::to_owned);
            } else if let Some((before, _)) = line.split_once(": ")
                && !line.starts_with(['/', '#'])
                && let Some(name) = before.split(' ').next_back()
            {
                fields.push(renamed.take().unwrap_or_else(|| name.to_owned()));
            }
        }
    }
    fields
}

#[test]
fn every_exit_code_is_documented() {
    let manual = read("docs/errors.md");
    let rows: Vec<&str> = manual.lines().filter(|line| line.starts_with('|')).collect();
    let source = read("src/exit.rs");
    let codes: Vec<(&str, &str)> = source
        .lines()
        .filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "))
        .filter(|(_, code)| code.bytes().all(|digit| digit.is_ascii_digit()))
        .collect();
    assert!(!codes.is_empty(), "src/exit.rs numbers no variant");
    let findings: Vec<String> = codes
        .iter()
        .filter(|(_, code)| !rows.iter().any(|row| words(row).any(|word| word == *code)))
        .map(|(name, code)| format!("{name} = {code}"))
        .collect();
    none("a table of docs/errors.md names every exit code", &findings);
}

#[test]
fn the_glossary_and_the_code_know_the_same_types() {
    let glossary = read("docs/glossary.md");
    let explained: BTreeSet<&str> = quoted(&glossary)
        .into_iter()
        .filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
        .collect();
    let files = files("rs");
    let defined: BTreeSet<&str> = files
        .iter()
        .filter(|file| file.is_product())
        .flat_map(Source::code)
        .filter_map(|(_, line)| type_defined(line))
        .collect();
    let unexplained =
        CENTRAL_TYPES.iter().filter(|name| defined.contains(**name) && !explained.contains(**name));
    let mut findings: Vec<String> =
        unexplained.map(|name| format!("`{name}` is not explained")).collect();
    findings.extend(explained.difference(&defined).map(|name| format!("`{name}` does not exist")));
    none("docs/glossary.md explains the central types that exist", &findings);
}

/// The public type that this line begins to define.
fn type_defined(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ")?;
    let (kind, name) = rest.split_once(' ')?;
    ["struct", "enum", "trait"].contains(&kind).then(|| words(name).next())?
}

#[test]
fn documents_point_at_what_exists() {
    let mut findings = Vec::new();
    for document in files("md") {
        for target in document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let is_elsewhere = path.is_empty() || path.contains("://");
            if !is_elsewhere && !root().join(document.folder()).join(path).exists() {
                findings.push(format!("{}: {path}", document.path));
            }
        }
    }
    let map = read("docs/architecture.md");
    let rooms = ["src/", "proto/", "catalog/", "archiver/", "restorer/", "tests/", "bench/"];
    let paths = quoted(&map).into_iter().filter(|path| rooms.iter().any(|r| path.starts_with(r)));
    findings.extend(
        paths
            .filter(|path| !root().join(path).exists())
            .map(|path| format!("docs/architecture.md: {path}")),
    );
    none("a path in a document exists", &findings);
}

#[test]
fn the_changelog_is_open_for_the_next_change() {
    let changelog = read("CHANGELOG.md");
    let first = changelog.lines().find(|line| line.starts_with("## "));
    assert_eq!(first, Some("## Unreleased"), "the first section of CHANGELOG.md");
}

#[test]
fn what_is_longest_is_printed() {
    let files = files("rs");
    let longest_files = longest(
        files.iter().map(|file| (file.code().count(), format!("{} lines of code", file.path))),
    );
    let longest_functions = longest(files.iter().flat_map(functions));
    println!("The longest files:\n{longest_files}\nThe longest functions:\n{longest_functions}");
}

/// Length and name of every function that ends on a line of its own, as rustfmt leaves them.
fn functions(file: &Source) -> Vec<(usize, String)> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some((before, after)) = code.split_once("fn ") else { continue };
        let is_head = before
            .split_whitespace()
            .all(|word| ["async", "const", "unsafe"].contains(&word) || word.starts_with("pub"));
        // A declaration in a trait ends with a semicolon and has no body to measure.
        let opening = lines[start..].iter().find(|line| line.ends_with(['{', '}', ';']));
        if !is_head || !opening.is_some_and(|line| line.ends_with('{')) {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        if let Some(length) = lines[start..].iter().position(|line| *line == end) {
            let name = words(after).next().unwrap_or_default();
            found.push((length + 1, format!("{name} ({}:{})", file.path, start + 1)));
        }
    }
    found
}

fn longest(measured: impl Iterator<Item = (usize, String)>) -> String {
    let mut all: Vec<(usize, String)> = measured.collect();
    all.sort_by(|a, b| b.cmp(a));
    all.iter().take(10).map(|(length, what)| format!("{length:>6}  {what}\n")).collect()
}
