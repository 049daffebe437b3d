//! On what, when and with what the figures were made. Without it they mean nothing.

use std::fs;

use anyhow::Result;

use crate::place::{Place, run};

/// Names and values, in the order in which they are printed.
pub(crate) fn describe(place: &Place) -> Result<Vec<(&'static str, String)>> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let memory = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("?");
    let cores = std::thread::available_parallelism()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("cargo run --release -p pgkeep-bench -- {}", arguments.join(" "));
    Ok(vec![
        ("date", jiff::Timestamp::now().strftime("%F %H:%M UTC").to_string()),
        ("machine", format!("{cores} cores of {}, {}", model.unwrap_or("?"), memory.trim())),
        ("kernel", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned()),
        ("postgres", run(place.postgres("postgres").arg("--version"))?),
        ("pgkeep", run(place.command(place.pgkeep()).arg("version"))?),
        ("files in", place.path("").display().to_string()),
        ("command", command.trim_end_matches(" -- ").to_owned()),
    ])
}
