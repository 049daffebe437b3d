//! One thing that was tried, and what came of it.

use serde::Serialize;

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, with something to know.
    Warning,
    /// Not safe to use.
    Bad,
    /// Could not be found out.
    Unknown,
}

/// What was found out about one property of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The property.
    pub name: &'static str,
    /// How to take it.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What that means for a repository; empty when it says nothing more.
    pub meaning: &'static str,
    /// What to do; empty when there is nothing to do.
    pub advice: &'static str,
}

impl Finding {
    /// Something that was seen.
    pub const fn new(name: &'static str, verdict: Verdict, seen: String) -> Self {
        Self { name, verdict, seen, meaning: "", advice: "" }
    }

    pub(super) fn unknown(name: &'static str, seen: &str) -> Self {
        Self::new(name, Verdict::Unknown, seen.to_owned())
    }

    /// Adds what it means.
    pub fn meaning(self, meaning: &'static str) -> Self {
        Self { meaning, ..self }
    }

    /// Adds what to do.
    pub fn advice(self, advice: &'static str) -> Self {
        Self { advice, ..self }
    }
}
