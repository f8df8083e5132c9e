//! What scenarios print: one JSON object a line.
//!
//! ```text
//!  {"job": 0, "step": "commands-run", "ok": true,  "ms": 51.2}
//!  {"job": 0, "step": "commands-run", "ok": false, "expected": "…", "actual": "…", "detail": "a stack trace"}
//!  {"job": 0, "step": "commands-run", "ok": null,  "actual": "why it could not be tried"}
//!  {"secret": "a token that must not be shown"}
//! ```

use serde::Deserialize;

use crate::check::{Stop, Verdict, fail};
use crate::redact::Secrets;

/// A step's end.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Line {
    /// Which server of a batch.
    pub job: usize,
    /// `topic-name`.
    pub step: String,
    /// Whether it passed; none where it could not be tried.
    pub ok: Option<bool>,
    /// Expected, where it failed.
    #[serde(default)]
    pub expected: String,
    /// Actual, or the reason.
    #[serde(default)]
    pub actual: String,
    /// More of it: a stack trace.
    #[serde(default)]
    pub detail: String,
    /// Milliseconds.
    #[serde(default)]
    pub ms: f64,
}

impl Line {
    /// The check's end.
    ///
    /// # Errors
    /// When the step failed or could not be tried.
    pub fn verdict(&self) -> Verdict {
        match self.ok {
            Some(true) => Ok(()),
            Some(false) => Err(fail(self.expected.clone(), self.actual.clone())),
            None => Err(Stop::Untestable(self.actual.clone())),
        }
    }
}

#[derive(Deserialize)]
struct Secret {
    secret: String,
}

/// All lines that are results; secrets are learnt, the rest is passed over: an SDK may print too.
#[must_use]
pub fn read(output: &[u8], secrets: &Secrets) -> Vec<Line> {
    let mut lines = Vec::new();
    for text in String::from_utf8_lossy(output).lines() {
        if let Ok(line) = serde_json::from_str::<Line>(text) {
            lines.push(line);
        } else if let Ok(told) = serde_json::from_str::<Secret>(text) {
            secrets.add(&told.secret);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn results_are_read_and_secrets_learnt() {
        let secrets = Secrets::default();
        let text = concat!(
            "a warning of the SDK\n",
            "{\"secret\": \"abcdefgh1234\"}\n",
            "{\"job\": 1, \"step\": \"files-read\", \"ok\": false, \"expected\": \"a\", \"actual\": \"b\", \"ms\": 2.5}\n",
            "{\"job\": 0, \"step\": \"files-list\", \"ok\": null, \"actual\": \"no sandbox\"}\n",
            "{\"job\": 0, \"step\": \"cut of",
        );
        let lines = read(text.as_bytes(), &secrets);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].verdict(), Err(fail("a", "b")));
        assert_eq!(
            lines[1].verdict(),
            Err(Stop::Untestable("no sandbox".to_owned()))
        );
        assert_eq!(secrets.text("x abcdefgh1234"), "x [redacted]");
    }

    proptest! {
        #[test]
        fn any_output_is_survived(output in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&output, &Secrets::default());
        }

        #[test]
        fn a_result_comes_back_whatever_its_texts(expected in any::<String>(), actual in any::<String>()) {
            let text = serde_json::json!({
                "job": 3, "step": "a-b", "ok": false, "expected": expected, "actual": actual, "ms": 1.0,
            });
            let lines = read(text.to_string().as_bytes(), &Secrets::default());
            prop_assert_eq!(lines.len(), 1);
            prop_assert_eq!(&lines[0].expected, &expected);
            prop_assert_eq!(&lines[0].actual, &actual);
        }
    }
}
