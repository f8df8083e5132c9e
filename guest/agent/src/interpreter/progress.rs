//! One execution, from the kernel's messages to events: pure.
//!
//! ```text
//!  shell  ──────────────────────────────────────────────── execute_reply ──┐
//!  iopub  status busy, execute_input, stream…, display…, result | error,   ├──► finished when both are in
//!         status idle ─────────────────────────────────────────────────────┘
//! ```
//!
//! The kernel tells an exception twice, on iopub and in its reply; it is told to the client once. The two sockets
//! are not ordered with each other, so each end counts only for its own. `clear_output`, `update_display_data` and
//! comm messages have no event of their own and are left out, as E2B does.

use serde_json::Value;

use super::events::{ErrorData, Failure, OutputEvent, Text};
use super::jupyter::message::Message;
use super::result::ResultData;

/// Which socket a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Replies.
    Shell,
    /// What the kernel publishes.
    Iopub,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Progress {
    idle: bool,
    replied: bool,
    error_told: bool,
    too_large_told: bool,
    /// An error that only the reply has told so far: iopub may still bring it, with its place in the output.
    pending_error: Option<OutputEvent>,
}

impl Progress {
    /// Takes a message of this execution and returns what the client is told.
    pub fn take(&mut self, channel: Channel, message: Message) -> Vec<OutputEvent> {
        let mut events = Vec::new();
        if message.cut && !self.too_large_told {
            self.too_large_told = true;
            let value = "an output of more than 64 MiB was dropped; write it to a file instead";
            events.push(OutputEvent::failure(Failure::OutputTooLarge, value));
        }
        match channel {
            Channel::Shell => self.take_reply(&message),
            Channel::Iopub if !message.cut => self.take_published(message, &mut events),
            Channel::Iopub => {}
        }
        if self.finished() && !self.error_told {
            events.extend(self.pending_error.take());
        }
        events
    }

    /// Whether both ends are in.
    pub fn finished(&self) -> bool {
        self.idle && self.replied
    }

    /// Whether one end is in: the other should follow at once, or has been lost.
    pub fn half_finished(&self) -> bool {
        self.idle != self.replied
    }

    /// An error that nobody has told the client yet, when one end was lost.
    pub fn into_pending_error(self) -> Option<OutputEvent> {
        if self.error_told {
            None
        } else {
            self.pending_error
        }
    }

    fn take_reply(&mut self, message: &Message) {
        if message.header.msg_type != "execute_reply" {
            return;
        }
        self.replied = true;
        match message.content.get("status").and_then(Value::as_str) {
            Some("error") => self.pending_error = Some(error(&message.content)),
            Some("aborted" | "abort") => {
                let value = "the kernel refused the cell because an earlier one failed";
                self.pending_error = Some(OutputEvent::failure(Failure::Aborted, value));
            }
            _ => {}
        }
    }

    fn take_published(&mut self, message: Message, events: &mut Vec<OutputEvent>) {
        let mut content = message.content;
        match message.header.msg_type.as_str() {
            "status" => {
                self.idle |= content.get("execution_state").and_then(Value::as_str) == Some("idle");
            }
            "execute_input" => {
                if let Some(count) = content.get("execution_count").and_then(Value::as_u64) {
                    events.push(OutputEvent::NumberOfExecutions {
                        execution_count: count,
                    });
                }
            }
            "stream" => {
                let text = Text {
                    text: string(&mut content, "text"),
                    timestamp: message.header.date,
                };
                match content.get("name").and_then(Value::as_str) {
                    Some("stdout") => events.push(OutputEvent::Stdout(text)),
                    Some("stderr") => events.push(OutputEvent::Stderr(text)),
                    _ => {}
                }
            }
            "display_data" | "execute_result" => {
                let is_main = message.header.msg_type == "execute_result";
                let bundle = content.get_mut("data").map(Value::take).unwrap_or_default();
                let result = ResultData::from_bundle(bundle, is_main);
                events.push(OutputEvent::Result(Box::new(result)));
            }
            "error" if !self.error_told => {
                self.error_told = true;
                events.push(error(&content));
            }
            _ => {}
        }
    }
}

/// The members of an exception; the traceback's lines in one string.
fn error(content: &Value) -> OutputEvent {
    let member = |name| {
        content
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let lines = content.get("traceback").and_then(Value::as_array);
    let lines: Vec<&str> = lines
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    OutputEvent::Error(ErrorData {
        name: member("ename"),
        value: member("evalue"),
        traceback: lines.join("\n"),
    })
}

/// Takes a string out of an object without copying it.
fn string(content: &mut Value, name: &str) -> String {
    match content.get_mut(name).map(Value::take) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::jupyter::message::Header;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn message(msg_type: &str, content: Value) -> Message {
        let header = Header {
            msg_type: msg_type.to_owned(),
            date: "2026-01-02T03:04:05Z".to_owned(),
            ..Header::default()
        };
        Message {
            header,
            parent_id: "p".to_owned(),
            content,
            cut: false,
            size: 0,
        }
    }

    fn published(progress: &mut Progress, kind: &str, content: Value) -> Vec<OutputEvent> {
        progress.take(Channel::Iopub, message(kind, content))
    }

    #[test]
    fn a_cell_goes_from_busy_to_both_ends() {
        let mut progress = Progress::default();
        let mut events = published(&mut progress, "status", json!({"execution_state": "busy"}));
        events.extend(published(
            &mut progress,
            "execute_input",
            json!({"execution_count": 4}),
        ));
        events.extend(published(
            &mut progress,
            "stream",
            json!({"name": "stdout", "text": "a"}),
        ));
        events.extend(published(
            &mut progress,
            "stream",
            json!({"name": "other", "text": "b"}),
        ));
        events.extend(published(&mut progress, "clear_output", json!({})));
        events.extend(published(
            &mut progress,
            "execute_result",
            json!({"data": {"text/plain": "2"}}),
        ));
        events.extend(published(
            &mut progress,
            "status",
            json!({"execution_state": "idle"}),
        ));
        assert!(!progress.finished() && progress.half_finished());
        events.extend(progress.take(
            Channel::Shell,
            message("execute_reply", json!({"status": "ok"})),
        ));
        assert!(progress.finished());
        let lines: Vec<u8> = events
            .iter()
            .flat_map(|event| event.to_line().to_vec())
            .collect();
        insta::assert_snapshot!(String::from_utf8(lines).unwrap(), @r#"
        {"type":"number_of_executions","execution_count":4}
        {"type":"stdout","text":"a","timestamp":"2026-01-02T03:04:05Z"}
        {"type":"result","text":"2","extra":{},"is_main_result":true}
        "#);
    }

    #[test]
    fn an_exception_is_told_once_whatever_comes_first() {
        let failed =
            json!({"status": "error", "ename": "E", "evalue": "v", "traceback": ["a", "b"]});
        let expected = OutputEvent::Error(ErrorData {
            name: "E".into(),
            value: "v".into(),
            traceback: "a\nb".into(),
        });
        let idle = || message("status", json!({"execution_state": "idle"}));

        let mut progress = Progress::default();
        let mut events = published(&mut progress, "error", failed.clone());
        events.extend(progress.take(Channel::Iopub, idle()));
        events.extend(progress.take(Channel::Shell, message("execute_reply", failed.clone())));
        assert_eq!(events, std::slice::from_ref(&expected));

        let mut progress = Progress::default();
        let mut events = progress.take(Channel::Shell, message("execute_reply", failed.clone()));
        events.extend(published(&mut progress, "error", failed.clone()));
        events.extend(progress.take(Channel::Iopub, idle()));
        assert_eq!(events, std::slice::from_ref(&expected));

        let mut progress = Progress::default();
        let mut events = progress.take(Channel::Shell, message("execute_reply", failed));
        events.extend(progress.take(Channel::Iopub, idle()));
        assert_eq!(events, [expected]);
    }

    #[test]
    fn a_refused_cell_is_an_aborted_execution() {
        let mut progress = Progress::default();
        progress.take(
            Channel::Shell,
            message("execute_reply", json!({"status": "aborted"})),
        );
        let Some(OutputEvent::Error(error)) = progress.into_pending_error() else {
            panic!("an error is pending");
        };
        assert_eq!(error.name, "ExecutionAborted");
    }

    #[test]
    fn an_output_that_was_cut_is_told_once() {
        let mut progress = Progress::default();
        let cut = || Message {
            cut: true,
            content: Value::Null,
            ..message("stream", Value::Null)
        };
        assert_eq!(progress.take(Channel::Iopub, cut()).len(), 1);
        assert_eq!(progress.take(Channel::Iopub, cut()).len(), 0);
    }

    proptest! {
        #[test]
        fn any_message_is_taken(
            kind in prop_oneof![
                Just("status"), Just("stream"), Just("error"), Just("execute_reply"),
                Just("execute_result"), Just("execute_input"), Just("display_data"), Just("x"),
            ],
            content in prop_oneof![
                Just(Value::Null), Just(json!([1])), Just(json!("s")), Just(json!({"data": 1})),
                Just(json!({"name": "stdout", "text": 1})), Just(json!({"execution_count": -1})),
                Just(json!({"traceback": [1, "a", null], "ename": 7})), Just(json!({"status": {}})),
            ],
            shell: bool,
        ) {
            let mut progress = Progress::default();
            let channel = if shell { Channel::Shell } else { Channel::Iopub };
            for event in progress.take(channel, message(kind, content)) {
                prop_assert!(event.to_line().len() > 2);
            }
        }
    }
}
