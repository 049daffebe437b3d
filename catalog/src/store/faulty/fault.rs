//! The ways in which a store fails, and which of its verbs each can befall.

use std::time::Duration;

/// One way in which a store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done: the connection is reset, or the store says that it is overloaded.
    Before,
    /// It is done, and the answer is lost.
    After,
    /// Permissions do not allow it.
    Denied,
    /// The request is not understood, and never will be.
    Refused,
    /// The answer comes so much later.
    Stall(Duration),
    /// Bytes flow at this many a second.
    Slow(u32),
    /// A write is answered with success, and nothing is stored: also the end of an upload whose
    /// success has an error in its body.
    Drop,
    /// A write is answered with success, and half of it is stored.
    TruncatePut,
    /// A name that is taken is overwritten although it should be refused.
    IgnoreCondition,
    /// A read brings what was there before the last write.
    Stale,
    /// A read brings half of its bytes.
    Truncate,
    /// A read brings one wrong bit.
    Flip,
    /// A listing leaves out its first key.
    Omit,
    /// A listing ends after so many keys, as if there were no more.
    Page(usize),
}

/// A verb of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Put,
    Upload,
    Write,
    Finish,
    Get,
    Head,
    List,
    Delete,
}

impl Fault {
    /// Whether it can befall `call`.
    pub(super) const fn can_befall(self, call: Call) -> bool {
        match self {
            Self::Before | Self::After | Self::Denied | Self::Refused | Self::Stall(_) => true,
            Self::Slow(_) => matches!(call, Call::Put | Call::Write | Call::Get),
            Self::Drop => matches!(call, Call::Put | Call::Write | Call::Finish),
            Self::TruncatePut => matches!(call, Call::Put | Call::Write),
            Self::IgnoreCondition => matches!(call, Call::Put | Call::Upload),
            Self::Stale | Self::Truncate | Self::Flip => matches!(call, Call::Get),
            Self::Omit | Self::Page(_) => matches!(call, Call::List),
        }
    }
}

impl Call {
    /// The faults that chance may choose: those that a sound store and a sound line may show.
    pub(super) const fn by_chance(self) -> &'static [Fault] {
        match self {
            Self::Get => &[Fault::Before, Fault::After, Fault::Truncate, Fault::Flip],
            Self::List => &[Fault::Before, Fault::After, Fault::Omit],
            _ => &[Fault::Before, Fault::After],
        }
    }
}
