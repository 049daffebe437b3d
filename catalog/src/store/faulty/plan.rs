//! Which call suffers which fault.

use std::collections::VecDeque;

use super::fault::{Call, Fault};

/// Decides call by call.
#[derive(Debug)]
pub(super) enum Plan {
    /// Each waits for the first call it can befall.
    Script(VecDeque<Fault>),
    /// Befalls every call it can.
    Always(Fault),
    /// Befalls one call: the one with this number, from 0, among those it can.
    At { fault: Fault, left: Option<usize> },
    /// By chance, in so many of a thousand calls, always alike for the same seed.
    Chance { rate_per_mille: u64, state: u64 },
}

impl Plan {
    /// The fault that `call` suffers.
    pub(super) fn next(&mut self, call: Call) -> Option<Fault> {
        match self {
            Self::Script(script) => {
                script.front().filter(|fault| fault.can_befall(call))?;
                script.pop_front()
            }
            Self::Always(fault) => fault.can_befall(call).then_some(*fault),
            Self::At { fault, left } => {
                let number = left.as_mut().filter(|_| fault.can_befall(call))?;
                match number.checked_sub(1) {
                    Some(less) => *number = less,
                    None => {
                        *left = None;
                        return Some(*fault);
                    }
                }
                None
            }
            Self::Chance { rate_per_mille, state } => {
                if random(state) % 1000 >= *rate_per_mille {
                    return None;
                }
                let faults = call.by_chance();
                let chosen = usize::try_from(random(state)).unwrap_or(usize::MAX) % faults.len();
                faults.get(chosen).copied()
            }
        }
    }

    /// Appends to a script; what is not a script becomes one.
    pub(super) fn append(&mut self, fault: Fault) {
        match self {
            Self::Script(script) => script.push_back(fault),
            _ => *self = Self::Script([fault].into()),
        }
    }

    /// Whether the one fault of [`Plan::At`] has struck.
    pub(super) const fn has_struck(&self) -> bool {
        matches!(self, Self::At { left: None, .. })
    }
}

/// Sebastiano Vigna's SplitMix64.
const fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
