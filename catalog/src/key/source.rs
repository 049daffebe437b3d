//! Where a secret comes from, as the configuration writes it. The secret itself is never inline.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// `file:/path`, `env:NAME` or `kms:ARN`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum SecretSource {
    /// The content of a file that only its owner may read.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A key that never leaves AWS KMS, by its ARN or alias.
    Kms(String),
}

impl FromStr for SecretSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            Some(("file", _)) => {
                Err("the path must be absolute, as in file:/etc/pgkeep/key".into())
            }
            Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Ok(Self::Env(name.to_owned()))
            }
            Some(("kms", key)) if !key.is_empty() => Ok(Self::Kms(key.to_owned())),
            // Whoever wrote the secret itself here must not find it in a log.
            _ => Err("a secret is written file:/PATH, env:NAME or kms:ARN, never itself".into()),
        }
    }
}

impl TryFrom<String> for SecretSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Kms(key) => write!(f, "kms:{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_comes_back() {
        for text in ["file:/etc/pgkeep/key", "env:PGKEEP_KEY", "kms:arn:aws:kms:eu-1:1:key/k"] {
            assert_eq!(text.parse::<SecretSource>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_inline_secret_is_refused_without_being_repeated() {
        for text in ["hunter2", "file:relative", "env:", "kms:", "", "pass:hunter2"] {
            let error = text.parse::<SecretSource>().unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
