//! Verifies what opens an encrypted repository: that the newest key epoch has two slots at least, and
//! that each link leads to the key before. Which secret opens a slot, nobody here knows.

use std::sync::Arc;

use super::report::Finding;
use crate::key::KeySlots;
use crate::layout::Layout;
use crate::{Error, Repository, Result};

/// One secret for every day, and one for when it is lost.
const SLOTS_MIN: usize = 2;

/// What is wrong with slots and links.
#[derive(Debug, Default)]
pub(super) struct KeyFindings {
    pub(super) missing: Vec<Finding>,
    pub(super) damaged: Vec<Finding>,
}

/// Verifies the slots and links of `repository`. An error is a store that does not answer.
pub(super) async fn verify_keys(repository: &Repository) -> Result<KeyFindings> {
    let mut found = KeyFindings::default();
    let keys = repository.keys();
    let Some(newest) = keys.newest() else { return Ok(found) };
    let store = Arc::clone(repository.store());
    let slots = KeySlots::list(store, Some(repository.uuid())).await?;
    let (active, mut sound) = (slots.active(), 0);
    for name in slots.names_of(active) {
        match slots.read(active, name).await {
            Ok(_) => sound += 1,
            Err(error) if error.is_retryable() => return Err(error),
            // The slot itself is told where all objects are.
            Err(_) => {}
        }
    }
    if sound < SLOTS_MIN {
        let slots = if sound == 1 { "slot" } else { "slots" };
        found.missing.push(Finding {
            key: format!("{}{active:04}", Layout::keys()),
            what: format!("{sound} sound {slots} of the newest key epoch, where there should be 2"),
            lost: "nothing yet; everything, when the last secret is lost".to_owned(),
        });
    }
    // A revocation that came meanwhile has an epoch whose key is not at hand.
    let mut newer = Some(newest);
    while let Some(key) = newer {
        let Some(number) = key.epoch().checked_sub(1).filter(|number| *number > 0) else { break };
        let older = keys.get(number);
        let what = match slots.open_previous(repository.uuid(), key).await {
            Ok(opened) if Some(&opened) == older => None,
            Ok(_) => Some("it leads to another key than the one in use".to_owned()),
            Err(error @ (Error::Damaged { .. } | Error::Foreign { .. })) => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        found.damaged.extend(what.map(|what| Finding {
            key: Layout::key_slot(key.epoch(), "previous").to_string(),
            what,
            lost: format!("everything that was sealed up to key epoch {number}"),
        }));
        newer = older;
    }
    Ok(found)
}
