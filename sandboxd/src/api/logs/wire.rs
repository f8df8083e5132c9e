//! Log entries and the queries for them. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::fields::bad;
use crate::moment::Moment;
use crate::store::events::Event;

/// Most entries of one answer.
const MAX_ENTRIES: u32 = 1_000;

/// Longest search text.
const MAX_SEARCH: usize = 256;

/// Query of the first version.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstQuery {
    start: Option<i64>,
    limit: Option<u32>,
}

/// Query of the second version.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondQuery {
    cursor: Option<i64>,
    limit: Option<u32>,
    direction: Option<String>,
    level: Option<String>,
    search: Option<String>,
}

/// A checked query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Entries at or after this (forward), or at or before it (backward).
    pub from: Option<Moment>,
    /// At most so many.
    pub limit: u32,
    /// Oldest first.
    pub forward: bool,
    /// Whether entries of level `info` are wanted; there are no others.
    pub info: bool,
    /// Text that must occur.
    pub search: String,
}

/// Answer of the first version.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxLogs {
    /// Entries as lines of JSON.
    pub logs: Vec<LogLine>,
    /// Entries.
    pub log_entries: Vec<LogEntry>,
}

/// Answer of the second version.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SandboxLogsV2 {
    /// Entries.
    pub logs: Vec<LogEntry>,
}

/// An entry as a line.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LogLine {
    /// When.
    #[schema(value_type = String)]
    pub timestamp: Moment,
    /// The entry as JSON.
    pub line: String,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogEntry {
    /// When.
    #[schema(value_type = String)]
    pub timestamp: Moment,
    /// What.
    pub message: String,
    /// `info`.
    pub level: &'static str,
    /// `event` names it for programs.
    pub fields: BTreeMap<&'static str, String>,
}

impl FirstQuery {
    /// The checked query.
    pub fn check(self) -> Result<Selection, ApiError> {
        Ok(Selection {
            from: self.start.map(millis),
            limit: limit(self.limit)?,
            forward: true,
            info: true,
            search: String::new(),
        })
    }
}

impl SecondQuery {
    /// The checked query.
    pub fn check(self) -> Result<Selection, ApiError> {
        let forward = match self.direction.as_deref() {
            None | Some("backward") => false,
            Some("forward") => true,
            Some(_) => return Err(bad("direction", "it must be backward or forward")),
        };
        let info = match self.level.as_deref() {
            None | Some("debug" | "info") => true,
            Some("warn" | "error") => false,
            Some(_) => return Err(bad("level", "it must be debug, info, warn or error")),
        };
        let search = self.search.unwrap_or_default();
        if search.len() > MAX_SEARCH {
            return Err(bad("search", "it is longer than 256 bytes"));
        }
        Ok(Selection {
            from: self.cursor.map(millis),
            limit: limit(self.limit)?,
            forward,
            info,
            search,
        })
    }
}

impl Selection {
    /// The entries that the query selects from a sandbox's events, which are oldest first.
    pub fn select(&self, events: Vec<Event>) -> Vec<LogEntry> {
        let wanted = |event: &Event| {
            self.info
                && event.detail.contains(&self.search)
                && self.from.is_none_or(|from| {
                    if self.forward {
                        event.at >= from
                    } else {
                        event.at.as_millis() <= from.as_millis()
                    }
                })
        };
        let mut events: Vec<_> = events.into_iter().filter(wanted).collect();
        if !self.forward {
            events.reverse();
        }
        events.truncate(usize::try_from(self.limit).unwrap_or(usize::MAX));
        events.into_iter().map(LogEntry::from).collect()
    }
}

impl From<Event> for LogEntry {
    fn from(event: Event) -> Self {
        Self {
            timestamp: event.at,
            message: event.detail,
            level: "info",
            fields: [("event", event.name)].into(),
        }
    }
}

impl From<&LogEntry> for LogLine {
    fn from(entry: &LogEntry) -> Self {
        Self {
            timestamp: entry.timestamp,
            line: serde_json::to_string(entry).unwrap_or_default(),
        }
    }
}

fn millis(millis: i64) -> Moment {
    Moment::from_micros(millis.saturating_mul(1_000))
}

fn limit(limit: Option<u32>) -> Result<u32, ApiError> {
    match limit {
        None => Ok(MAX_ENTRIES),
        Some(limit) if limit <= MAX_ENTRIES => Ok(limit),
        Some(_) => Err(bad("limit", "it must be a number from 0 to 1000")),
    }
}
