//! The lines of an execution's answer: one JSON object each, absent members left out.
//!
//! ```text
//! {"type":"number_of_executions","execution_count":1}
//! {"type":"stdout","text":"hi\n","timestamp":"2026-01-02T03:04:05.678901Z"}
//! {"type":"result","text":"2","extra":{},"is_main_result":true}
//! {"type":"error","name":"NameError","value":"…","traceback":"…"}
//! {"type":"keepalive"}                      after five idle seconds, and again
//! {"type":"end_of_execution"}               always the last
//! ```
//!
//! Source: the code interpreter of E2B, as its SDKs read it.

use bytes::Bytes;
use serde::Serialize;

use super::result::ResultData;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputEvent {
    /// The cell's number; the kernel has taken the code.
    NumberOfExecutions {
        /// Counts from 1 in each kernel.
        execution_count: u64,
    },
    /// Something was printed.
    Stdout(Text),
    /// Something was printed as an error or a warning.
    Stderr(Text),
    /// A value was shown, or is the cell's own (boxed: it is far larger than the rest).
    Result(Box<ResultData>),
    /// The cell, or what runs it, failed.
    Error(ErrorData),
    /// Nothing happened for a while.
    Keepalive,
    /// Nothing follows.
    EndOfExecution,
}

/// Printed text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Text {
    /// As printed, not line by line.
    pub text: String,
    /// RFC 3339, as the kernel tells it.
    pub timestamp: String,
}

/// An exception, or a failure named as the SDKs know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorData {
    /// Class of the exception.
    pub name: String,
    /// Its message.
    pub value: String,
    /// All of it in one string.
    pub traceback: String,
}

/// Failures of the machinery, not of the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The kernel ended under the execution.
    UnexpectedEnd,
    /// Somebody restarted the context.
    Restarting,
    /// The kernel refused the cell.
    Aborted,
    /// The kernel sent something larger than is taken.
    OutputTooLarge,
}

impl OutputEvent {
    /// An error event for a failure.
    pub fn failure(failure: Failure, value: impl Into<String>) -> Self {
        let name = match failure {
            Failure::UnexpectedEnd => "UnexpectedEndOfExecution",
            Failure::Restarting => "ContextRestarting",
            Failure::Aborted => "ExecutionAborted",
            Failure::OutputTooLarge => "OutputTooLarge",
        };
        Self::Error(ErrorData {
            name: name.to_owned(),
            value: value.into(),
            traceback: String::new(),
        })
    }

    /// The line with its end.
    pub fn to_line(&self) -> Bytes {
        // Maps have string keys and numbers are finite, so that there is no error to tell.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_read_as_the_sdks_expect() {
        let text = || Text {
            text: "hi\n".into(),
            timestamp: "2026-01-02T03:04:05Z".into(),
        };
        let result = ResultData::from_bundle(json!({"text/plain": "'2'"}), true);
        let events = [
            OutputEvent::NumberOfExecutions { execution_count: 3 },
            OutputEvent::Stdout(text()),
            OutputEvent::Stderr(text()),
            OutputEvent::Result(Box::new(result)),
            OutputEvent::failure(Failure::Restarting, "Context was restarted"),
            OutputEvent::Keepalive,
            OutputEvent::EndOfExecution,
        ];
        let lines: Vec<u8> = events
            .iter()
            .flat_map(|event| event.to_line().to_vec())
            .collect();
        insta::assert_snapshot!(String::from_utf8(lines).unwrap(), @r#"
        {"type":"number_of_executions","execution_count":3}
        {"type":"stdout","text":"hi\n","timestamp":"2026-01-02T03:04:05Z"}
        {"type":"stderr","text":"hi\n","timestamp":"2026-01-02T03:04:05Z"}
        {"type":"result","text":"2","extra":{},"is_main_result":true}
        {"type":"error","name":"ContextRestarting","value":"Context was restarted","traceback":""}
        {"type":"keepalive"}
        {"type":"end_of_execution"}
        "#);
    }
}
