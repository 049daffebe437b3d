//! Where `tests/stores/install.sh` and `tests/reader/setup.sh` put what tests run against.

use std::env;
use std::path::PathBuf;

/// The directory; it outlives a checkout.
pub(crate) fn cache() -> PathBuf {
    let from = |name, below: &str| Some(PathBuf::from(env::var_os(name)?).join(below));
    from("PGKEEP_TEST_CACHE", "")
        .or_else(|| from("XDG_CACHE_HOME", "pgkeep-tests"))
        .or_else(|| from("HOME", ".cache/pgkeep-tests"))
        .expect("a home directory is named")
}
