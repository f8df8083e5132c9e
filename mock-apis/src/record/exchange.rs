//! One call and its reply, as far as they are kept.

use std::collections::BTreeMap;

use serde_json::Value;

use super::secrets::{self, Secrets};
use super::write;
use super::{MAX_KEPT, MAX_POINTERS};
use crate::contract::template;
use crate::scenario::yaml;

/// Headers of a reply that a client acts on. Whatever else there is (dates, servers, cookies, traces) is of that call alone.
const HEADERS: [&str; 15] = [
    "allow",
    "cache-control",
    "content-language",
    "content-type",
    "deprecation",
    "etag",
    "idempotency-replayed",
    "last-modified",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "sunset",
    "www-authenticate",
];

/// Prefixes of such headers.
const PREFIXES: [&str; 2] = ["ratelimit-", "x-ratelimit-"];

/// Longest pointer of a reply's body in a scenario.
const PREFIX: usize = 64;

/// Levels of a scenario around a body.
const AROUND: usize = 10;

/// A call and its reply without what is secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// Method.
    pub method: String,
    /// Path, each part decoded.
    pub path: String,
    /// Query, decoded, without what is secret.
    pub query: Vec<(String, String)>,
    /// Reply.
    pub reply: Kept,
}

/// What is kept of a reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Status.
    pub status: u16,
    /// Headers that a client acts on.
    pub headers: BTreeMap<String, String>,
    /// Body, when it is JSON.
    pub body: Option<Value>,
    /// Why a body is not kept.
    pub lost: Option<Lost>,
}

/// What the proxy has seen.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Method.
    pub method: &'a str,
    /// Path, not decoded.
    pub path: &'a str,
    /// Query, not decoded.
    pub query: &'a str,
    /// Headers of the request.
    pub asked: &'a http::HeaderMap,
    /// Status of the reply.
    pub status: u16,
    /// Headers of the reply.
    pub headers: &'a http::HeaderMap,
    /// Body of the reply.
    pub body: &'a [u8],
}

/// Why a call is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// Its method has other characters than capital letters.
    #[error("a scenario has no such method")]
    Method,
    /// Its path has an escaped `/`, or a part in braces, or is none.
    #[error("a scenario has no such path")]
    Path,
    /// Its status is beyond 599 or below 200.
    #[error("a scenario has no such status")]
    Status,
}

/// Why the body of a reply is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Of another type.
    #[error("is not JSON")]
    NotJson,
    /// The one JSON value that a scenario cannot have as a body.
    #[error("is null")]
    Null,
    /// Beyond [`MAX_KEPT`].
    #[error("has more than {MAX_KEPT} bytes")]
    TooLarge,
    /// Nested beyond what a scenario file may be, with keys too long for how much is below them, or with a number beyond what YAML keeps.
    #[error("has a depth, keys or a number that a scenario file does not keep")]
    Beyond,
}

impl Exchange {
    /// What is kept of a call.
    pub fn of(seen: &Seen<'_>) -> Result<Self, NotKept> {
        let token = !seen.method.is_empty() && seen.method.bytes().all(|c| c.is_ascii_uppercase());
        if !token {
            return Err(NotKept::Method);
        }
        if !(200..=599).contains(&seen.status) {
            return Err(NotKept::Status);
        }
        let shown: Vec<_> = seen
            .asked
            .iter()
            .chain(seen.headers)
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
            .collect();
        let shown = shown.iter().map(|(name, value)| (*name, value.as_ref()));
        let secrets = Secrets::of(seen.query, shown);
        let query = template::query(seen.query);
        Ok(Self {
            method: seen.method.to_owned(),
            path: path(seen.path, &secrets)?,
            query: query
                .into_iter()
                .filter(|(name, _)| !secrets::is_secret(name))
                .map(|(name, value)| (secrets.clean(&name), secrets.clean(&value)))
                .collect(),
            reply: reply(seen, &secrets),
        })
    }
}

impl Exchange {
    /// Bytes that it takes when it is written, at most.
    pub fn size(&self) -> usize {
        // Names of fields and indents.
        const FIXED: usize = 400;
        let query = self.query.iter().map(|(name, value)| (name, value));
        let texts = query.chain(&self.reply.headers);
        let texts: usize = texts
            .map(|(name, value)| write::size(name) + write::size(value))
            .sum();
        let body = self
            .reply
            .body
            .as_ref()
            .map_or(0, |body| write::flow(body).len());
        FIXED + write::size(&self.path) + texts + body
    }

    /// Bytes of the pointers of its values when it is read, at most.
    pub fn pointers(&self) -> usize {
        // Status, schedule, each header and each parameter; those of the body come on top.
        let names = self
            .query
            .iter()
            .map(|(name, _)| name)
            .chain(self.reply.headers.keys());
        let names: usize = names.map(|name| 2 * name.len() + PREFIX).sum();
        let body = self
            .reply
            .body
            .as_ref()
            .map_or(0, |body| pointers(body, PREFIX));
        10 * PREFIX + names + body
    }
}

/// The path as a template that matches it and nothing else.
fn path(path: &str, secrets: &Secrets) -> Result<String, NotKept> {
    let rest = path.strip_prefix('/').ok_or(NotKept::Path)?;
    let parts = rest.split('/').map(|part| {
        let part = secrets.clean(&template::decode(part));
        let parameter = part.starts_with('{') && part.ends_with('}');
        (!part.contains('/') && !parameter).then_some(part)
    });
    let parts: Option<Vec<_>> = parts.collect();
    Ok(format!("/{}", parts.ok_or(NotKept::Path)?.join("/")))
}

fn reply(seen: &Seen<'_>, secrets: &Secrets) -> Kept {
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in seen.headers {
        let name = name.as_str();
        let acts = HEADERS.contains(&name) || PREFIXES.iter().any(|it| name.starts_with(it));
        if let (true, Ok(value)) = (acts, value.to_str()) {
            let value = secrets.clean(value);
            headers
                .entry(name.to_owned())
                .and_modify(|all| *all = format!("{all}, {value}"))
                .or_insert(value);
        }
    }
    let (body, lost) = match body(seen.body) {
        Ok(body) => (body.map(|body| secrets.clean_value(body)), None),
        Err(lost) => (None, Some(lost)),
    };
    if body.is_some()
        && headers
            .get("content-type")
            .is_some_and(|it| it == "application/json")
    {
        headers.remove("content-type");
    }
    Kept {
        status: seen.status,
        headers,
        body,
        lost,
    }
}

fn body(bytes: &[u8]) -> Result<Option<Value>, Lost> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() > MAX_KEPT {
        return Err(Lost::TooLarge);
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Null) => Err(Lost::Null),
        // Before it is read: that would take as much as they do.
        Ok(value) if pointers(&value, PREFIX) > MAX_POINTERS => Err(Lost::Beyond),
        Ok(value) if survives(&value) => Ok(Some(value)),
        Ok(_) => Err(Lost::Beyond),
        Err(_) => Err(Lost::NotJson),
    }
}

/// Bytes of the pointers of a value at a pointer of `length` bytes and of all below it.
fn pointers(value: &Value, length: usize) -> usize {
    // The parser of JSON has bounded the depth, so the stack is not at risk.
    length
        + match value {
            // The longest index of a body has six digits.
            Value::Array(items) => items.iter().map(|item| pointers(item, length + 7)).sum(),
            Value::Object(members) => members
                .iter()
                .map(|(name, member)| pointers(member, length + 2 * name.len() + 1))
                .sum(),
            _ => 0,
        }
}

/// Whether it is the same when it has been written and read, at the depth that bodies have in a scenario.
fn survives(value: &Value) -> bool {
    let text = "[".repeat(AROUND) + &write::flow(value) + &"]".repeat(AROUND);
    yaml::parse(&text).is_ok_and(|read| {
        let inner = (0..AROUND).try_fold(&read.value, |value, _| value.get(0));
        inner == Some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn headers(list: &[(&'static str, &'static str)]) -> http::HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )
        };
        list.iter().map(pair).collect()
    }

    fn seen(
        path: &str,
        body: &str,
        replied: &[(&'static str, &'static str)],
    ) -> Result<Exchange, NotKept> {
        Exchange::of(&Seen {
            method: "GET",
            path,
            query: "q=a+b&token=query-secret",
            asked: &headers(&[
                ("authorization", "Bearer bearer-secret"),
                ("cookie", "s=cookie-secret"),
            ]),
            status: 200,
            headers: &headers(replied),
            body: body.as_bytes(),
        })
    }

    #[test]
    fn what_a_client_acts_on_is_kept_and_no_secret_is() {
        let body = r#"{"echo": "Bearer bearer-secret", "n": 1}"#;
        let replied = [
            ("content-type", "application/json"),
            ("set-cookie", "s=set-secret"),
            ("date", "today"),
            ("location", "/x?token=query-secret"),
            ("x-ratelimit-remaining", "4"),
        ];
        let kept = seen("/a%20b/c", body, &replied).unwrap();
        assert_eq!(
            (kept.path.as_str(), kept.query.as_slice()),
            ("/a b/c", &[("q".into(), "a b".into())][..])
        );
        assert_eq!(kept.reply.body, Some(json!({"echo": "REMOVED", "n": 1})));
        let names: Vec<_> = kept.reply.headers.keys().collect();
        assert_eq!(names, ["location", "x-ratelimit-remaining"]);
        assert!(!format!("{kept:?}").contains("-secret"), "{kept:?}");
    }

    #[test]
    fn what_a_scenario_cannot_say_is_told() {
        for path in ["*", "/a%2Fb", "/%7Bid%7D", "/{id}"] {
            assert_eq!(seen(path, "", &[]), Err(NotKept::Path), "{path}");
        }
        let deep = "[".repeat(100) + &"]".repeat(100);
        let large = format!("\"{}\"", "x".repeat(MAX_KEPT));
        let keys = format!("{{\"{}\": [{}1]}}", "k".repeat(50_000), "1,".repeat(1000));
        let table = [
            (keys.as_str(), Lost::Beyond),
            ("<p>", Lost::NotJson),
            ("null", Lost::Null),
            (&deep, Lost::Beyond),
            ("[18446744073709551615]", Lost::Beyond),
            (&large, Lost::TooLarge),
        ];
        for (body, lost) in table {
            assert_eq!(seen("/x", body, &[]).unwrap().reply.lost, Some(lost));
        }
        assert_eq!(seen("/x", "", &[]).unwrap().reply.lost, None);
    }
}
