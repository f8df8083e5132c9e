//! A reply, and what checks ask of it. Each question fails with what was expected and what came.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::check::{Stop, fail};

/// How much of a body is shown in a failure.
const SHOWN: usize = 300;

/// A reply, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, empty when absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }

    /// Status and beginning of the body, for a failure's "actual".
    #[must_use]
    pub fn brief(&self) -> String {
        let text: String = self.text().chars().take(SHOWN).collect();
        format!("{} with body {text:?}", self.status.as_u16())
    }

    /// The status must be this.
    ///
    /// # Errors
    /// When it is not.
    pub fn status(&self, wanted: u16) -> Result<&Self, Stop> {
        if self.status.as_u16() == wanted {
            return Ok(self);
        }
        Err(fail(format!("status {wanted}"), self.brief()))
    }

    /// The status must be one of these.
    ///
    /// # Errors
    /// When it is not.
    pub fn one_of(&self, wanted: &[u16]) -> Result<&Self, Stop> {
        if wanted.contains(&self.status.as_u16()) {
            return Ok(self);
        }
        Err(fail(format!("a status of {wanted:?}"), self.brief()))
    }

    /// The body must be JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> Result<Value, Stop> {
        serde_json::from_slice(&self.body)
            .map_err(|error| fail("a JSON body", format!("{} ({error})", self.brief())))
    }

    /// The body must be a JSON array.
    ///
    /// # Errors
    /// When it is not.
    pub fn array(&self) -> Result<Vec<Value>, Stop> {
        match self.json()? {
            Value::Array(items) => Ok(items),
            _ => Err(fail("a JSON array", self.brief())),
        }
    }

    /// The status must be this and the body the API's error: `code` equal to the status, `message` a sentence.
    ///
    /// # Errors
    /// When one of them is not so.
    pub fn refusal(&self, wanted: u16) -> Result<Value, Stop> {
        self.status(wanted)?;
        let body = self.json()?;
        if body["code"].as_u64() != Some(u64::from(wanted)) {
            return Err(fail(
                format!("an error body whose `code` is the number {wanted}"),
                self.brief(),
            ));
        }
        if body["message"].as_str().is_none_or(str::is_empty) {
            return Err(fail("an error body with a `message`", self.brief()));
        }
        Ok(body)
    }

    /// The reply must be a Connect error of this code: its HTTP status and a JSON body that names it.
    ///
    /// # Errors
    /// When one of them is not so.
    pub fn connect_error(&self, code: &str, status: u16) -> Result<Value, Stop> {
        self.status(status)?;
        let body = self.json()?;
        if body["code"].as_str() != Some(code) {
            return Err(fail(
                format!("a Connect error with code {code:?}"),
                self.brief(),
            ));
        }
        Ok(body)
    }
}

/// A member that must be a string.
///
/// # Errors
/// When it is absent or something else.
pub fn text(value: &Value, name: &str) -> Result<String, Stop> {
    value[name]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| fail(format!("member `{name}` as a string"), shown(value, name)))
}

/// A member that must be a whole number that is not negative. Strings are taken as well: Connect writes 64-bit numbers so.
///
/// # Errors
/// When it is absent or something else.
pub fn number(value: &Value, name: &str) -> Result<u64, Stop> {
    value[name]
        .as_u64()
        .or_else(|| value[name].as_str().and_then(|text| text.parse().ok()))
        .ok_or_else(|| {
            fail(
                format!("member `{name}` as a whole number"),
                shown(value, name),
            )
        })
}

/// A member that must be a time in RFC 3339.
///
/// # Errors
/// When it is absent or something else.
pub fn time(value: &Value, name: &str) -> Result<jiff::Timestamp, Stop> {
    let text = text(value, name)?;
    text.parse().map_err(|_| {
        fail(
            format!("member `{name}` as a time in RFC 3339"),
            format!("{text:?}"),
        )
    })
}

fn shown(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => format!(
            "no such member in {}",
            value.to_string().chars().take(SHOWN).collect::<String>()
        ),
        other => format!("{other}"),
    }
}
