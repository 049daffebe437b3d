//! Measured claims, side by side with peers: `make bench`.
//!
//! ```text
//!   sealing, latency, receive, archive_get    one question each
//!        |
//!   pgkeep, server                            what is measured, and what it is measured on
//!        |
//!   place                                     a directory in memory, and who works in it
//! ```
//!
//! Invariants: what is compared runs alternately in the same run; nothing is asserted: a claim that
//! is missed is printed as missed. Nothing stays behind, unless the run is killed.
#![expect(clippy::disallowed_methods, reason = "measuring is reading clocks, and nobody tests it")]

mod archive_get;
mod figure;
mod latency;
mod machine;
mod pgkeep;
mod place;
mod receive;
mod sealing;
mod server;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use figure::Figure;
use place::Place;

/// A question, by its name on the command line, and what answers it.
type Topic = (&'static str, fn(&Place) -> Result<Vec<Figure>>);

const TOPICS: [Topic; 4] = [
    ("sealing", sealing::measure),
    ("latency", latency::measure),
    ("receive", receive::measure),
    ("archive-get", archive_get::measure),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (flags, names): (Vec<_>, Vec<_>) = arguments.iter().partition(|a| a.starts_with('-'));
    let is_known = |name: &String| TOPICS.iter().any(|(topic, _)| topic == name);
    if flags.iter().any(|flag| *flag != "--json") || !names.iter().all(|name| is_known(name)) {
        let topics = TOPICS.map(|(topic, _)| topic).join("|");
        bail!("usage: pgkeep-bench [--json] [{topics}]...");
    }
    let is_json = !flags.is_empty();
    let place = Place::create()?;
    let machine = machine::describe(&place)?;
    if !is_json {
        machine.iter().for_each(|(name, value)| println!("{name:10}{value}"));
    }
    let mut answers = serde_json::Map::new();
    for (topic, measure) in TOPICS {
        if !names.is_empty() && !names.iter().any(|name| *name == topic) {
            continue;
        }
        if !is_json {
            println!("\n{topic}");
        }
        let figures = measure(&place).with_context(|| format!("measure {topic}"))?;
        if is_json {
            answers.insert(topic.to_owned(), figures.iter().map(Figure::to_json).collect());
        } else {
            figures.iter().for_each(|figure| println!("  {figure}"));
        }
    }
    if is_json {
        let machine: serde_json::Map<_, _> =
            machine.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        println!("{:#}", json!({ "machine": machine, "topics": answers }));
    }
    Ok(())
}
