//! Why a store on a network refuses us, and what its operator can do about it.

use std::fmt;

/// What a store that answers will not do, whoever asks again in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The bucket or container does not exist.
    NoBucket,
    /// Nothing says who we are.
    NoCredentials,
    /// The store does not know the credentials, or they are wrong.
    Credentials,
    /// The credentials were good once.
    Expired,
    /// This machine's clock and the store's are too far apart.
    ClockSkew,
    /// The bucket is in another region.
    Region,
    /// The store's certificate is not one we trust.
    Certificate,
    /// The object was moved where it cannot be read at once.
    Archived,
    /// The store does not understand or does not take the request.
    Rejected,
}

impl Refusal {
    /// Whether an operator can lift it while a daemon waits. The others need another configuration
    /// or an act on the object.
    pub const fn is_curable(self) -> bool {
        !matches!(self, Self::Archived | Self::Rejected)
    }

    /// What an operator may do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::NoBucket => {
                "check repository.url and repository.endpoint; pgkeep makes no buckets"
            }
            Self::NoCredentials => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this \
                 machine a role"
            }
            Self::Credentials => {
                "check the key and its secret, and that they are meant for repository.endpoint"
            }
            Self::Expired => "renew the credentials: a session token has an end",
            Self::ClockSkew => "set the clock of this machine; requests are signed with its time",
            Self::Region => "set repository.region to the region of the bucket",
            Self::Certificate => {
                "name the certificate of the authority that signed it in repository.ca_file"
            }
            Self::Archived => {
                "ask the store to restore the object from its archive, wait, and try again"
            }
            Self::Rejected => {
                "the store may lack a feature that [repository] asks for; docs/stores.md names them"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoBucket => "the bucket does not exist",
            Self::NoCredentials => "there are no credentials",
            Self::Credentials => "the store does not accept the credentials",
            Self::Expired => "the credentials have expired",
            Self::ClockSkew => "the clocks of this machine and of the store differ too much",
            Self::Region => "the bucket is in another region",
            Self::Certificate => "the store's certificate is not trusted",
            Self::Archived => {
                "the object is archived by its storage class and must be thawed first"
            }
            Self::Rejected => "the store does not take the request",
        })
    }
}
