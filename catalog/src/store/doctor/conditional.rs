//! Whether `Create` fails when the name is taken.
//!
//! Two writers are kept apart by nothing else. A store that ignores the condition answers as one that
//! keeps it, until two writers meet; so it is tried, with three requests.

use bytes::Bytes;
use uuid::Uuid;

use crate::store::{ObjectClass, ObjectKey, PutOptions, Store};
use crate::{Error, Result};

/// What a store makes of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditions {
    /// A name that is taken is refused.
    Kept,
    /// A name that is taken is overwritten.
    Ignored,
}

/// Tries whether a name can be created twice. What was put is removed again where that is allowed.
pub async fn conditional_put(store: &dyn Store) -> Result<Conditions> {
    let key = probe_key(Uuid::new_v4(), "conditional")?;
    let create = PutOptions::create(ObjectClass::Passing);
    store.put(&key, Bytes::from_static(b"first"), create).await?;
    let second = store.put(&key, Bytes::from_static(b"second"), create).await;
    match store.delete(&key).await {
        // Nothing is wrong with a store from which this writer may not remove anything.
        Ok(()) | Err(Error::Denied { .. }) => {}
        Err(error) => return Err(error),
    }
    match second {
        Ok(()) => Ok(Conditions::Ignored),
        Err(error) if error.is_already_exists() => Ok(Conditions::Kept),
        Err(error) => Err(error),
    }
}

/// A key that belongs to one examination.
pub(super) fn probe_key(examination: Uuid, name: &str) -> Result<ObjectKey> {
    format!("probe/{}/{name}", examination.simple()).parse()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Fault, Faulty, MemoryStore};

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_found_out() {
        let memory = MemoryStore::new();
        assert_eq!(conditional_put(&memory).await.unwrap(), Conditions::Kept);
        let ignoring = Faulty::always(memory.clone(), Fault::IgnoreCondition);
        assert_eq!(conditional_put(&ignoring).await.unwrap(), Conditions::Ignored);
        assert!(memory.list("", None, 1).await.unwrap().is_empty(), "nothing is left");
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_not_judged() {
        let store = Faulty::at(MemoryStore::new(), Fault::Before, 1);
        assert!(conditional_put(&store).await.unwrap_err().is_retryable());
    }
}
