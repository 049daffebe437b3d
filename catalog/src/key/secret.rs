//! A secret, as its source gives it: a key of 32 random bytes, a passphrase, or a key in AWS KMS.
//!
//! A text that begins with `PGKEEP-KEY-1:` is a key: base64 of 32 bytes follows. Any other text is a
//! passphrase, without the line end behind it. A key opens a slot at once; a passphrase is stretched
//! first, which costs time and memory on purpose.
//!
//! Invariants:
//! * a secret is never printed, is no part of an error, and is wiped when it is dropped;
//! * a file is read only if it is a file itself and no link, belongs to us or to root, and gives no
//!   right to anybody else. At most 4 KiB are read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use super::SecretSource;
use super::repository_key::KEY_SIZE;
use crate::store::blocking;
use crate::{Error, Result, durable};

/// What the text of a key begins with.
const KEY_MARK: &str = "PGKEEP-KEY-1:";

/// Largest text of a secret, in bytes.
const TEXT_SIZE_MAX: usize = 4096;

/// Shortest passphrase, in characters.
const PASSPHRASE_LENGTH_MIN: usize = 12;

/// A secret, or the name of one that never leaves AWS KMS.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// 32 random bytes.
    Key(Zeroizing<[u8; KEY_SIZE]>),
    /// What a person can remember or write down.
    Passphrase(Zeroizing<Vec<u8>>),
    /// A key in AWS KMS, by its ARN, id or alias.
    Kms(String),
}

impl Secret {
    /// Reads the secret at `source`; of KMS only its name, which is no secret.
    pub async fn read(source: &SecretSource) -> Result<Self> {
        let refused = |what: String| Error::Secret { secret: source.to_string(), what };
        let text = match source {
            SecretSource::Kms(key) => return Ok(Self::Kms(key.clone())),
            SecretSource::Env(name) => match std::env::var_os(name) {
                Some(text) => Zeroizing::new(text.into_encoded_bytes()),
                None => return Err(refused("the variable is not set".to_owned())),
            },
            SecretSource::File(path) => {
                let path = path.clone();
                blocking(move || Ok(read_file(&path))).await?.map_err(refused)?
            }
        };
        Self::parse(&text).map_err(refused)
    }

    /// Makes a key file at `path`, with mode 0600, durable; `AlreadyExists` if the name is taken.
    ///
    /// Blocks.
    pub fn generate(path: &Path) -> io::Result<Self> {
        let mut key = Zeroizing::new([0; KEY_SIZE]);
        getrandom::fill(key.as_mut_slice()).map_err(io::Error::other)?;
        let mut text = Zeroizing::new(String::with_capacity(TEXT_SIZE_MAX));
        text.push_str(KEY_MARK);
        STANDARD.encode_string(key.as_slice(), &mut text);
        text.push('\n');
        durable::create_new(path, text.as_bytes())?;
        Ok(Self::Key(key))
    }

    /// Judges a text; what is wrong with it never repeats it.
    fn parse(text: &[u8]) -> Result<Self, String> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        if text.len() > TEXT_SIZE_MAX {
            return Err(format!("it has more than {TEXT_SIZE_MAX} bytes"));
        }
        if let Some(encoded) = text.strip_prefix(KEY_MARK.as_bytes()) {
            let mut key = Zeroizing::new([0; KEY_SIZE]);
            return match STANDARD.decode_slice(encoded.trim_ascii(), key.as_mut_slice()) {
                Ok(KEY_SIZE) => Ok(Self::Key(key)),
                _ => Err(format!("it begins with {KEY_MARK} and 32 bytes in base64 do not follow")),
            };
        }
        let length = String::from_utf8_lossy(text).chars().count();
        if length < PASSPHRASE_LENGTH_MIN {
            return Err(format!(
                "a passphrase has at least {PASSPHRASE_LENGTH_MIN} characters, this one has {length}"
            ));
        }
        Ok(Self::Passphrase(Zeroizing::new(text.to_vec())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) => f.write_str("Key(..)"),
            Self::Passphrase(_) => f.write_str("Passphrase(..)"),
            Self::Kms(key) => f.debug_tuple("Kms").field(key).finish(),
        }
    }
}

/// The text in the file at `path`, if nobody else could read or change it.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    // A pipe in its place must not hold us up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err("it is a symbolic link".to_owned()),
        Err(error) => return Err(io::Error::from(error).to_string()),
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(format!("it belongs to user {owner}, neither to us nor to root"));
    }
    if mode & 0o077 != 0 {
        return Err(format!("others than its owner have rights on it: its mode is {mode:04o}"));
    }
    let limit = TEXT_SIZE_MAX + 2;
    // One allocation, so that no copy of the secret stays behind when it grows.
    let mut text = Zeroizing::new(Vec::with_capacity(limit + 1));
    let bound = u64::try_from(limit + 1).unwrap_or(u64::MAX);
    file.take(bound).read_to_end(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, SecretSource) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, SecretSource::File(path))
    }

    async fn refusal(source: &SecretSource) -> String {
        Secret::read(source).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_generated_key_is_read_again_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let made = Secret::generate(&path).unwrap();
        let read = Secret::read(&SecretSource::File(path.clone())).await.unwrap();
        assert_eq!(made, read);
        assert!(matches!(read, Secret::Key(_)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Secret::generate(&path).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[tokio::test]
    async fn a_file_that_others_have_rights_on_is_refused() {
        for mode in [0o640, 0o604, 0o610, 0o620, 0o601, 0o666] {
            let (_directory, source) = file(b"correct horse battery\n", mode);
            assert!(refusal(&source).await.contains("mode"), "{mode:o}");
        }
        for mode in [0o600, 0o400] {
            let (_directory, source) = file(b"correct horse battery\n", mode);
            let secret = Secret::read(&source).await.unwrap();
            let expected = Zeroizing::new(b"correct horse battery".to_vec());
            assert_eq!(secret, Secret::Passphrase(expected));
        }
    }

    #[tokio::test]
    async fn neither_a_link_nor_a_directory_is_a_secret() {
        let (directory, source) = file(b"correct horse battery", 0o600);
        let SecretSource::File(path) = &source else { unreachable!() };
        let link = directory.path().join("link");
        symlink(path, &link).unwrap();
        assert!(refusal(&SecretSource::File(link)).await.contains("symbolic link"));
        let directory = SecretSource::File(directory.path().to_owned());
        assert!(refusal(&directory).await.contains("not a file"));
    }

    #[tokio::test]
    async fn what_is_too_short_too_long_or_no_key_is_refused_without_being_repeated() {
        for (text, why) in [
            (&b""[..], "empty"),
            (b"\n", "empty"),
            (b"hunter2\n", "12 characters"),
            (b"PGKEEP-KEY-1:aHVudGVyMg==", "base64"),
            (b"PGKEEP-KEY-1:hunter2", "base64"),
            (&[b'x'; 5000], "more than 4096"),
        ] {
            let (_directory, source) = file(text, 0o600);
            let error = refusal(&source).await;
            assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
        }
        let missing = refusal(&"env:PGKEEP_NOT_SET_IN_TESTS".parse().unwrap()).await;
        assert!(missing.contains("not set"), "{missing}");
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::parse(b"correct horse battery").unwrap();
        assert_eq!(format!("{secret:?}"), "Passphrase(..)");
    }
}
