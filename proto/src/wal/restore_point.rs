//! A named moment, made by `pg_create_restore_point`.
//!
//! See `xl_restore_point` in Postgres' `src/include/access/xlog_internal.h`.

use bytes::Buf;

use super::Record;
use super::record::RM_XLOG;
use crate::TimestampTz;

const XLOG_RESTORE_POINT: u8 = 0x70;
/// `MAXFNAMELEN`: the field that holds the name and at least one NUL.
const NAME_FIELD: usize = 64;

/// What a restore point's record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePoint {
    /// When it was made.
    pub time: TimestampTz,
    /// Its name. The server's encoding is not known here; what is not UTF-8 is replaced.
    pub name: String,
}

impl RestorePoint {
    /// Reads `record`; `None` if it is none, or too short to be one.
    pub fn parse(record: &Record<'_>) -> Option<Self> {
        if record.header.rmid != RM_XLOG || record.header.info & 0xF0 != XLOG_RESTORE_POINT {
            return None;
        }
        let mut data = record.main_data()?;
        let time = TimestampTz::new(data.try_get_i64_le().ok()?);
        let name = data.get(..NAME_FIELD)?.split(|byte| *byte == 0).next()?;
        Some(Self { time, name: String::from_utf8_lossy(name).into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::synthetic::{body_of, record};

    #[test]
    fn name_ends_at_the_first_nul() {
        let mut data = 7i64.to_le_bytes().to_vec();
        data.extend(b"before\0after");
        data.resize(72, 0);
        let body = body_of(&data);
        let point = RestorePoint::parse(&record(0, 0x70, 0, &body)).unwrap();
        assert_eq!(point, RestorePoint { time: TimestampTz::new(7), name: "before".to_owned() });
        assert_eq!(RestorePoint::parse(&record(0, 0x40, 0, &body)), None);
        assert_eq!(RestorePoint::parse(&record(0, 0x70, 0, &body[..60])), None);
    }
}
