//! `run_code`: a cell, by the code interpreter. One request, lines of JSON until the cell has ended.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::{Value, json};

use super::sandbox::CODE;
use super::{CallError, Client, Sandbox};

/// Longest answer of a cell that is taken.
const MAX_REPLY: usize = 1 << 20;

impl Client {
    /// Runs `1+1`, which has to give 2. Gives when its answer had been read.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn run_code(&self, sandbox: &Sandbox) -> Result<Instant, CallError> {
        let body = Bytes::from(json!({"code": "1+1"}).to_string());
        let mut ask = self.inside(sandbox, CODE, Method::POST, "/execute".to_owned(), body);
        let json = HeaderValue::from_static("application/json");
        ask.headers.push(("content-type", json));
        ask.max_reply = MAX_REPLY;
        let reply = CallError::check(self.pool.exchange(&ask).await?)?;
        let at = Instant::now();
        two(&reply.body)?;
        Ok(at)
    }
}

/// Whether a cell's lines say that its main result is 2.
fn two(body: &[u8]) -> Result<(), CallError> {
    let mut text = None;
    for line in body.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let event: Value =
            serde_json::from_slice(line).map_err(|_| CallError::Lacks("lines of JSON"))?;
        match event["type"].as_str() {
            Some("result") => text = event["text"].as_str().map(super::error::short),
            Some("error") => {
                let name = event["name"].as_str().unwrap_or("an error");
                return Err(CallError::Result(super::error::short(name)));
            }
            _ => {}
        }
    }
    match text.as_deref() {
        Some("2") => Ok(()),
        Some(other) => Err(CallError::Result(other.to_owned())),
        None => Err(CallError::Lacks("result of the code")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_is_two() {
        let ok = "{\"type\":\"number_of_executions\",\"execution_count\":1}\n{\"type\":\"result\",\"text\":\"2\",\"is_main_result\":true}\n{\"type\":\"end_of_execution\"}\n";
        assert!(two(ok.as_bytes()).is_ok());
        assert!(two(ok.replace("\"2\"", "\"3\"").as_bytes()).is_err());
        assert!(two(b"{\"type\":\"error\",\"name\":\"MemoryError\"}").is_err());
        assert!(two(b"{\"type\":\"end_of_execution\"}").is_err());
        assert!(two(b"<html>").is_err());
    }
}
