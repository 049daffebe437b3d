//! Whether `Create` fails when the name is taken, and whether it does so for who comes at once.
//!
//! Two writers are kept apart by nothing else. A store that ignores the condition answers as one that
//! keeps it, until two writers meet; and there are stores that look at the condition before the write
//! and not with it, which only those notice who come together. So several creators of one name race
//! here. This costs twenty small requests and five times the way to the store.

use std::fmt;

use bytes::Bytes;
use futures_util::future::join_all;
use uuid::Uuid;

use crate::store::{GetRange, ObjectClass, ObjectKey, PutOptions, Store};
use crate::{Error, Result};

const CREATE: PutOptions = PutOptions::create(ObjectClass::Passing);

/// So many want the same name at once.
const CREATORS: u8 = 8;

/// Long enough that a write takes a while, short enough for one packet or two.
const BODY_SIZE: usize = 2048;

/// What a store makes of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditions {
    /// A name that is taken is refused, and one alone of those who come at once gets it.
    Kept,
    /// A name that is taken is refused only to who comes later.
    OneByOne,
    /// A name that is taken is overwritten.
    Ignored,
}

impl fmt::Display for Conditions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kept => "of creators at once one got the name, and the next was refused",
            Self::OneByOne => {
                "it keeps them only one by one; of creators at once not one alone won"
            }
            Self::Ignored => "a name that is taken is overwritten",
        })
    }
}

/// Tries whether a name can be created twice. What was put is removed again where that is allowed.
pub async fn conditional_put(store: &dyn Store) -> Result<Conditions> {
    let key = probe_key(Uuid::new_v4(), "conditional")?;
    let judged = race(store, &key).await;
    match store.delete(&key).await {
        // Nothing is wrong with a store from which this writer may not remove anything.
        Ok(()) | Err(Error::Denied { .. }) => {}
        Err(error) => return judged.and(Err(error)),
    }
    judged
}

/// Lets several create `key`, which must be absent, and then one more.
pub(super) async fn race(store: &dyn Store, key: &ObjectKey) -> Result<Conditions> {
    // So that nobody waits for a connection when it counts. What is absent may be refused, too.
    join_all((0..CREATORS).map(|_| store.head(key))).await;
    let create = |number: u8| store.put(key, Bytes::from(vec![number; BODY_SIZE]), CREATE);
    let ends = join_all((0..CREATORS).map(create)).await;
    let mut winners = Vec::new();
    for (number, end) in (0..CREATORS).zip(ends) {
        if is_created(end)? {
            winners.push(number);
        }
    }
    if is_created(create(CREATORS).await)? {
        return Ok(Conditions::Ignored);
    }
    let &[winner] = winners.as_slice() else { return Ok(Conditions::OneByOne) };
    match store.get(key, GetRange::All).await {
        Ok(object) if object.bytes == vec![winner; BODY_SIZE] => Ok(Conditions::Kept),
        Ok(_) => Ok(Conditions::OneByOne),
        Err(error) if error.is_not_found() => Ok(Conditions::OneByOne),
        Err(error) => Err(error),
    }
}

/// Whether a creator got the name; an error if that is not known.
fn is_created(end: Result<()>) -> Result<bool> {
    match end {
        Ok(()) => Ok(true),
        Err(error) if error.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// A key that belongs to one examination.
pub(super) fn probe_key(examination: Uuid, name: &str) -> Result<ObjectKey> {
    format!("probe/{}/{name}", examination.simple()).parse()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{Fault, Faulty, MemoryStore, Unconditional};

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_found_out() {
        let memory = MemoryStore::new();
        assert_eq!(conditional_put(&memory).await.unwrap(), Conditions::Kept);
        let ignoring = Faulty::always(memory.clone(), Fault::IgnoreCondition);
        assert_eq!(conditional_put(&ignoring).await.unwrap(), Conditions::Ignored);
        assert!(memory.list("", None, 1).await.unwrap().is_empty(), "nothing is left");
    }

    /// Looks at the name, and writes a while later.
    #[tokio::test(start_paused = true)]
    async fn a_store_that_looks_before_it_writes_is_found_out() {
        let memory = MemoryStore::new();
        let slow = Faulty::always(memory.clone(), Fault::Stall(Duration::from_millis(10)));
        let looking = Unconditional::new(slow);
        let key = "one".parse().unwrap();
        looking.put(&key, Bytes::new(), CREATE).await.unwrap();
        let again = looking.put(&key, Bytes::new(), CREATE).await;
        assert!(again.unwrap_err().is_already_exists(), "one by one it seems to be sound");
        assert_eq!(conditional_put(&looking).await.unwrap(), Conditions::OneByOne);
        assert_eq!(memory.list("", None, 9).await.unwrap().len(), 1, "nothing is left of it");
    }

    #[tokio::test]
    async fn a_winner_whose_object_is_not_there_has_not_won() {
        let store = Faulty::always(MemoryStore::new(), Fault::Flip);
        assert_eq!(conditional_put(&store).await.unwrap(), Conditions::OneByOne);
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_not_judged() {
        for number in [CREATORS, 2 * CREATORS - 1, 2 * CREATORS, 2 * CREATORS + 1] {
            let memory = MemoryStore::new();
            let store = Faulty::at(memory.clone(), Fault::Before, number.into());
            assert!(conditional_put(&store).await.unwrap_err().is_retryable(), "call {number}");
            assert!(memory.list("", None, 1).await.unwrap().is_empty(), "something is left");
        }
    }
}
