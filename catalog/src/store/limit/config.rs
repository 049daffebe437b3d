//! How fast a store may be used, and at what time of day.

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::store::ByteSize;

/// How fast a store may be used: `[repository.limit]` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitConfig {
    /// Requests a second. Default: no limit.
    pub requests: Option<u32>,
    /// Bytes of base backups a second on their way to the store. Default: no limit.
    pub upload: Option<ByteSize>,
    /// Bytes a second that are read. Default: no limit.
    pub download: Option<ByteSize>,
    /// Time zone of the windows, such as `Europe/Berlin`. Needed where there are windows.
    pub time_zone: Option<String>,
    /// Times of day with other limits. The first that holds counts.
    pub windows: Vec<LimitWindow>,
}

/// A time of day with limits of its own: `[[repository.limit.windows]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitWindow {
    /// When it begins: `08:00`.
    pub from: Time,
    /// When it ends; before `from`, on the next day.
    pub to: Time,
    /// Instead of `requests`; left out, no limit.
    #[serde(default)]
    pub requests: Option<u32>,
    /// Instead of `upload`; left out, no limit.
    #[serde(default)]
    pub upload: Option<ByteSize>,
    /// Instead of `download`; left out, no limit.
    #[serde(default)]
    pub download: Option<ByteSize>,
}

/// What holds at a moment, a second; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rates {
    /// Requests.
    pub requests: Option<u64>,
    /// Bytes to the store.
    pub upload: Option<u64>,
    /// Bytes from it.
    pub download: Option<u64>,
}

impl LimitConfig {
    /// Everything that is wrong with this section.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(Err(error)) = self.time_zone.as_deref().map(TimeZone::get) {
            problems.push(format!("repository.limit.time_zone: {error}"));
        }
        if self.time_zone.is_none() && !self.windows.is_empty() {
            problems.push("repository.limit.windows need repository.limit.time_zone".to_owned());
        }
        let windows = self.windows.iter().map(LimitWindow::rates);
        let all = windows.chain([self.rates()]);
        if all
            .flat_map(|rates| [rates.requests, rates.upload, rates.download])
            .any(|rate| rate == Some(0))
        {
            problems.push("repository.limit: a rate of 0 would stop everything".to_owned());
        }
        if self.windows.iter().any(|window| window.from == window.to) {
            problems.push("repository.limit.windows: from and to must differ".to_owned());
        }
        problems
    }

    /// Whether anything is limited at any time.
    pub fn is_on(&self) -> bool {
        self.rates() != Rates::default() || !self.windows.is_empty()
    }

    /// What holds at `now`.
    pub(super) fn rates_at(&self, now: Timestamp) -> Rates {
        let zone = self.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        let time = now.to_zoned(zone.unwrap_or(TimeZone::UTC)).time();
        let window = self.windows.iter().find(|window| window.holds(time));
        window.map_or_else(|| self.rates(), LimitWindow::rates)
    }

    fn rates(&self) -> Rates {
        rates(self.requests, self.upload, self.download)
    }
}

impl LimitWindow {
    fn holds(&self, time: Time) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&time)
        } else {
            time >= self.from || time < self.to
        }
    }

    fn rates(&self) -> Rates {
        rates(self.requests, self.upload, self.download)
    }
}

fn rates(requests: Option<u32>, upload: Option<ByteSize>, download: Option<ByteSize>) -> Rates {
    Rates {
        requests: requests.map(u64::from),
        upload: upload.map(ByteSize::bytes),
        download: download.map(ByteSize::bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> LimitConfig {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn windows_are_times_of_day_in_their_zone() {
        let config = config(
            r#"{"upload": "50MiB", "time_zone": "Europe/Berlin", "windows": [
                {"from": "08:00", "to": "18:00", "upload": "5MiB"},
                {"from": "22:00", "to": "02:00"}]}"#,
        );
        assert!(config.problems().is_empty(), "{:?}", config.problems());
        let upload = |time: &str| config.rates_at(time.parse().unwrap()).upload;
        // Berlin is one hour ahead in winter and two in summer.
        assert_eq!(upload("2026-01-10T06:59:59Z"), Some(50 << 20));
        assert_eq!(upload("2026-01-10T07:00:00Z"), Some(5 << 20));
        assert_eq!(upload("2026-01-10T16:59:59Z"), Some(5 << 20));
        assert_eq!(upload("2026-01-10T17:00:00Z"), Some(50 << 20));
        assert_eq!(upload("2026-07-10T06:30:00Z"), Some(5 << 20));
        assert_eq!(upload("2026-01-10T23:30:00Z"), None, "across midnight");
    }

    #[test]
    fn what_cannot_work_is_told() {
        assert_eq!(config(r#"{"upload": "0B"}"#).problems().len(), 1);
        assert_eq!(config(r#"{"time_zone": "Mars/Base"}"#).problems().len(), 1);
        let window = r#"{"windows": [{"from": "08:00", "to": "08:00"}]}"#;
        assert_eq!(config(window).problems().len(), 2);
    }
}
