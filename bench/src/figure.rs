//! One measured figure, with its spread and the claim it is held against.

use std::fmt;

use serde_json::{Value, json};

/// What was measured, and what came out.
#[derive(Debug)]
pub(crate) struct Figure {
    what: String,
    unit: &'static str,
    value: f64,
    /// Least and most, when the value is a median.
    spread: Option<(f64, f64)>,
    /// The claim: less than this.
    limit: Option<f64>,
}

impl Figure {
    /// A single value.
    pub(crate) fn of(what: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { what: what.into(), unit, value, spread: None, limit: None }
    }

    /// The median of `samples`, with the least and the most of them.
    pub(crate) fn median(what: impl Into<String>, unit: &'static str, samples: &[f64]) -> Self {
        let spread = Some((percentile(samples, 0.0), percentile(samples, 1.0)));
        Self { spread, ..Self::of(what, unit, percentile(samples, 0.5)) }
    }

    /// The same, with the claim that it is less than `limit`.
    pub(crate) fn claimed_below(self, limit: f64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// What a script reads.
    pub(crate) fn to_json(&self) -> Value {
        let (least, most) = self.spread.unzip();
        json!({
            "what": self.what, "unit": self.unit, "value": self.value, "min": least, "max": most,
            "claimed_below": self.limit, "holds": self.limit.map(|limit| self.value < limit),
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:46}{:>9.3} {:4}", self.what, self.value, self.unit)?;
        if let Some((least, most)) = self.spread {
            write!(f, "{:22}", format!("({least:.3} to {most:.3})"))?;
        }
        if let Some(limit) = self.limit {
            let verdict = if self.value < limit { "holds" } else { "MISSED" };
            write!(f, "claim < {limit}: {verdict}")?;
        }
        Ok(())
    }
}

/// The sample at `rank`, from 0 to 1, of all samples in order: the nearest above.
pub(crate) fn percentile(samples: &[f64], rank: f64) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    let below = samples.len().saturating_sub(1) as f64 * rank;
    let above = (0..samples.len()).find(|index| *index as f64 >= below);
    above.and_then(|index| samples.get(index)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples = [3.0, 1.0, 2.0];
        let at = |rank| percentile(&samples, rank);
        assert_eq!((at(0.0), at(0.5), at(0.99), at(1.0)), (1.0, 2.0, 3.0, 3.0));
        assert!(percentile(&[], 0.5).is_nan());
    }
}
