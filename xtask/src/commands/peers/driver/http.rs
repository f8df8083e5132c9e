//! HTTP/1.1 over a Unix socket, as much of it as the peer's API needs: one request after another, JSON bodies.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Longest answer that is read, head and body each.
const LIMIT: u64 = 64 << 10;

/// A connection to an API.
#[derive(Debug)]
pub struct Api(BufReader<UnixStream>);

impl Api {
    /// Speaks over `stream`; no exchange waits longer than `patience`.
    ///
    /// # Errors
    /// When the socket takes no time limit.
    pub fn new(stream: UnixStream, patience: Duration) -> Result<Self> {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends `body` and waits until it was done.
    ///
    /// # Errors
    /// When it is refused, with what was said, or the connection breaks.
    pub fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<()> {
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        let (status, answer) = self
            .answer()
            .with_context(|| format!("no answer to {method} {path}"))?;
        if !(200..300).contains(&status) {
            bail!("{method} {path} was refused with {status}: {answer}");
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<(u16, String)> {
        let head = self.line()?;
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .with_context(|| format!("not an HTTP answer: {head:?}"))?;
        let mut length = 0;
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().context("a bad Content-Length")?;
                }
                Some(_) => {}
                None if line.is_empty() => break,
                None => bail!("not a header: {line:?}"),
            }
        }
        ensure!(length <= LIMIT, "an answer of {length} bytes");
        let mut body = String::new();
        (&mut self.0).take(length).read_to_string(&mut body)?;
        Ok((status, body))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        (&mut self.0).take(LIMIT).read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "the connection ended");
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &'static str) -> Result<()> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(text.as_bytes()).unwrap();
        let mut api = Api::new(ours, Duration::from_secs(5)).unwrap();
        let done = api.call("PUT", "/x", &serde_json::json!({"a": 1}));
        drop(api);
        let mut sent = String::new();
        (&theirs).read_to_string(&mut sent).unwrap();
        assert!(
            sent.starts_with("PUT /x HTTP/1.1\r\n") && sent.ends_with("\r\n\r\n{\"a\":1}"),
            "{sent}"
        );
        done
    }

    #[test]
    fn what_was_done_and_what_was_refused() {
        answered("HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n").unwrap();
        answered("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        let refused =
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 22\r\n\r\n{\"fault_message\":\"no\"}";
        let error = answered(refused).unwrap_err().to_string();
        assert!(
            error.contains("refused with 400: {\"fault_message\""),
            "{error}"
        );
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in ["x\r\n\r\n", "HTTP/1.1 204", "HTTP/1.1 200 OK\r\nx\r\n\r\n"] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            (&theirs).write_all(text.as_bytes()).unwrap();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            let mut api = Api::new(ours, Duration::from_secs(5)).unwrap();
            assert!(api.call("PUT", "/", &Value::Null).is_err(), "{text}");
        }
    }
}
