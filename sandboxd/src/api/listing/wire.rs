//! The query of a list, and what it selects. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::api::error::ApiError;
use crate::api::fields::{bad, page_limit};
use crate::ids::SandboxId;
use crate::lifecycle::sandbox::View;
use crate::moment::Moment;
use crate::templates::Reference;

/// Query of `GET /v2/sandboxes`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PageQuery {
    metadata: Option<String>,
    state: Option<String>,
    order: Option<String>,
    started_after: Option<String>,
    template: Option<String>,
    next_token: Option<String>,
    limit: Option<String>,
}

/// Query of `GET /sandboxes`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RunningQuery {
    metadata: Option<String>,
}

/// Order by start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

/// A checked query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    metadata: BTreeMap<String, String>,
    states: States,
    started_after: Option<Moment>,
    template: Option<String>,
    order: Order,
    behind: Option<Mark>,
    limit: usize,
}

/// Which sandboxes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct States {
    running: bool,
    paused: bool,
}

/// A place in an ordered list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    started_at: Moment,
    id: SandboxId,
}

/// One page.
#[derive(Debug)]
pub struct Page {
    /// Its sandboxes.
    pub views: Vec<View>,
    /// Token of the next page, if there is one.
    pub next_token: Option<String>,
    /// Running sandboxes that the filters select, on all pages.
    pub total_running: usize,
}

impl PageQuery {
    /// The checked query.
    pub fn check(self) -> Result<Selection, ApiError> {
        let order = match self.order.as_deref() {
            None | Some("desc") => Order::Desc,
            Some("asc") => Order::Asc,
            Some(_) => return Err(bad("order", "it must be asc or desc")),
        };
        let limit = page_limit(self.limit.as_deref())?;
        let started_after = match self.started_after.as_deref() {
            None => None,
            Some(text) => Some(
                Moment::parse(text)
                    .ok_or_else(|| bad("startedAfter", "it must be an RFC 3339 date and time"))?,
            ),
        };
        let template = match self.template.as_deref() {
            None => None,
            Some(text) => match Reference::parse(text) {
                Some(reference) if reference.tag.is_none() => Some(reference.name),
                _ => {
                    return Err(bad(
                        "template",
                        "it must be a template's id or alias without a tag",
                    ));
                }
            },
        };
        let behind = self.next_token.as_deref().filter(|token| !token.is_empty());
        Ok(Selection {
            metadata: metadata(self.metadata.as_deref())?,
            states: States::read(self.state.as_deref())?,
            started_after,
            template,
            order,
            behind: behind.map(|token| Mark::read(token, order)).transpose()?,
            limit,
        })
    }
}

impl RunningQuery {
    /// The checked query: all running sandboxes on one page.
    pub fn check(self) -> Result<Selection, ApiError> {
        Ok(Selection {
            metadata: metadata(self.metadata.as_deref())?,
            states: States {
                running: true,
                paused: false,
            },
            started_after: None,
            template: None,
            order: Order::Desc,
            behind: None,
            limit: usize::MAX,
        })
    }
}

impl Selection {
    /// The page that the query selects.
    pub fn page(&self, views: Vec<View>) -> Page {
        let mut views: Vec<_> = views
            .into_iter()
            .filter(|view| self.selects(view))
            .collect();
        let total_running = views.iter().filter(|v| v.paused.is_none()).count();
        views.sort_by(|a, b| self.compare(&Mark::of(a), &Mark::of(b)));
        if let Some(mark) = &self.behind {
            views.retain(|view| self.compare(&Mark::of(view), mark) == Ordering::Greater);
        }
        let more = views.len() > self.limit;
        views.truncate(self.limit);
        let last = views.last().filter(|_| more);
        Page {
            next_token: last.map(|view| Mark::of(view).write(self.order)),
            views,
            total_running,
        }
    }

    fn selects(&self, view: &View) -> bool {
        let facts = &view.facts;
        let state = match view.paused {
            None => self.states.running,
            Some(_) => self.states.paused,
        };
        state
            && self
                .metadata
                .iter()
                .all(|(k, v)| facts.metadata.get(k) == Some(v))
            && self
                .started_after
                .is_none_or(|after| view.span.started_at >= after)
            && self.template.as_ref().is_none_or(|name| {
                facts.shown_template() == name || facts.shown_alias() == Some(name)
            })
    }

    /// Start time in the order asked for; equal ones by id.
    fn compare(&self, a: &Mark, b: &Mark) -> Ordering {
        let by_time = a.started_at.cmp(&b.started_at);
        let by_time = match self.order {
            Order::Asc => by_time,
            Order::Desc => by_time.reverse(),
        };
        by_time.then_with(|| a.id.cmp(&b.id))
    }
}

impl Mark {
    fn of(view: &View) -> Self {
        Self {
            started_at: view.span.started_at,
            id: view.id.clone(),
        }
    }

    fn write(&self, order: Order) -> String {
        let order = match order {
            Order::Asc => "asc",
            Order::Desc => "desc",
        };
        URL_SAFE_NO_PAD.encode(format!("{}__{}__{order}", self.started_at, self.id))
    }

    fn read(token: &str, order: Order) -> Result<Self, ApiError> {
        let mark = || {
            let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let mut parts = text.split("__");
            let (time, id, of) = (parts.next()?, parts.next()?, parts.next()?);
            let mark = Self {
                started_at: Moment::parse(time)?,
                id: SandboxId::parse(id)?,
            };
            (parts.next().is_none() && mark.write(order) == token && !of.is_empty()).then_some(mark)
        };
        mark().ok_or_else(|| bad("nextToken", "it does not come from a page of this query"))
    }
}

impl States {
    fn read(text: Option<&str>) -> Result<Self, ApiError> {
        let all = text.is_none();
        let mut states = Self {
            running: all,
            paused: all,
        };
        for state in text.into_iter().flat_map(|states| states.split(',')) {
            match state.trim() {
                "running" => states.running = true,
                "paused" => states.paused = true,
                _ => return Err(bad("state", "it must be a list of running and paused")),
            }
        }
        Ok(states)
    }
}

/// The metadata filter, as the SDKs write it: keys and values percent-encoded, joined as a query string (which encodes
/// them again), encoded once more as a parameter. The parameter's own encoding is undone already.
fn metadata(text: Option<&str>) -> Result<BTreeMap<String, String>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(BTreeMap::new());
    };
    let decode = || {
        let whole = unescape(text)?;
        whole
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=')?;
                Some((unescape(key)?, unescape(value)?))
            })
            .collect::<Option<_>>()
    };
    decode().ok_or_else(|| bad("metadata", "it is not a percent-encoded list of key=value"))
}

/// Undoes percent-encoding, with `+` for a space; `None` when it is malformed or not UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                u8::from_str_radix(digits, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{metadata, unescape};

    #[test]
    fn the_recorded_encoding_is_undone() {
        // As seen on the wire: metadata=a%252520b%3Dc%252526d; the parameter's own layer is off already.
        let map = metadata(Some("a%2520b=c%2526d")).unwrap();
        assert_eq!(
            map.into_iter().collect::<Vec<_>>(),
            [("a b".into(), "c&d".into())]
        );
        assert!(metadata(Some("")).unwrap().is_empty());
        assert!(metadata(Some("novalue")).is_err());
        assert!(metadata(Some("a=%zz")).is_err());
    }

    fn quote(text: &str) -> String {
        text.bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn any_pair_survives_the_three_layers(key in ".{1,20}", value in ".{0,20}") {
            let joined = format!("{}={}", quote(&quote(&key)), quote(&quote(&value)));
            let map = metadata(Some(&joined)).unwrap();
            prop_assert_eq!(map.get(&key), Some(&value));
        }

        #[test]
        fn unescape_never_panics(text in ".{0,60}") {
            let _ = unescape(&text);
        }
    }
}
