//! Server streams of the Connect protocol, in JSON or protobuf: one request frame, then frames until the end frame.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::envelope::{COMPRESSED, Decoder, END, Envelope};
use super::http1::Opened;
use super::proto::{self, Message, codec};
use crate::check::{Stop, fail};
use crate::context::broken;
use crate::evidence::Streamed;

/// Content type of streams in JSON.
pub const STREAM_JSON: &str = "application/connect+json";

/// Longest stream, in frames, that is read.
const MAX_FRAMES: usize = 100_000;

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Error code, none on success.
    pub code: Option<String>,
    /// Error message, empty on success.
    pub message: String,
}

/// A stream that is being read. Dropping it closes its connection.
#[derive(Debug)]
pub struct Stream {
    opened: Opened,
    decoder: Decoder,
    evidence: Streamed,
    frames: usize,
    /// The message in each frame, where it is protobuf.
    message: Option<&'static Message>,
    ending: Option<Ending>,
}

impl Stream {
    /// Begins to read what was opened.
    ///
    /// # Errors
    /// When the reply is not 200 with the content type of a stream.
    pub fn begin(opened: Opened, evidence: Streamed) -> Result<Self, Stop> {
        Self::begin_as(opened, evidence, None)
    }

    /// The same for frames with a protobuf message.
    ///
    /// # Errors
    /// See [`Self::begin`].
    pub fn begin_as(
        opened: Opened,
        evidence: Streamed,
        message: Option<&'static Message>,
    ) -> Result<Self, Stop> {
        let wanted = if message.is_some() {
            proto::STREAM
        } else {
            STREAM_JSON
        };
        let kind = opened
            .headers
            .get("content-type")
            .and_then(|value| value.to_str().ok());
        if opened.status.as_u16() != 200 || kind.is_none_or(|kind| !kind.starts_with(wanted)) {
            return Err(fail(
                format!("status 200 with content type {wanted}"),
                format!(
                    "status {} with content type {kind:?}",
                    opened.status.as_u16()
                ),
            ));
        }
        Ok(Self {
            opened,
            decoder: Decoder::default(),
            evidence,
            frames: 0,
            message,
            ending: None,
        })
    }

    /// The next message; none when the stream has ended with its end frame.
    ///
    /// # Errors
    /// When the connection breaks, ends without end frame, or nothing comes in time.
    pub async fn message(&mut self, limit: Duration) -> Result<Option<Value>, Stop> {
        if self.ending.is_some() {
            return Ok(None);
        }
        let envelope = self.envelope(limit).await?;
        if envelope.flags & COMPRESSED != 0 {
            return Err(fail("frames without compression", "a compressed frame"));
        }
        if let Some(message) = self.message
            && envelope.flags & END == 0
        {
            let value = codec::decode(message, &envelope.payload);
            return value.map(Some).map_err(|error| {
                fail(
                    format!("{} as protobuf in each frame", message.name),
                    format!("{error} in {:?}", envelope.payload),
                )
            });
        }
        let value: Value = serde_json::from_slice(&envelope.payload).map_err(|error| {
            fail(
                "JSON in each frame",
                format!("{error} in {:?}", envelope.payload),
            )
        })?;
        if envelope.flags & END == 0 {
            return Ok(Some(value));
        }
        self.ending = Some(Ending {
            code: value["error"]["code"].as_str().map(str::to_owned),
            message: value["error"]["message"].as_str().unwrap_or("").to_owned(),
        });
        self.after_end(limit).await?;
        Ok(None)
    }

    /// Reads all that is left, then tells how it ended.
    ///
    /// # Errors
    /// See [`Self::message`].
    pub async fn drain(&mut self, limit: Duration) -> Result<(Vec<Value>, Ending), Stop> {
        let mut messages = Vec::new();
        while let Some(message) = self.message(limit).await? {
            messages.push(message);
        }
        let ending = self.ending.clone().unwrap_or(Ending {
            code: None,
            message: String::new(),
        });
        Ok((messages, ending))
    }

    async fn envelope(&mut self, limit: Duration) -> Result<Envelope, Stop> {
        loop {
            if let Some(envelope) = self
                .decoder
                .take_frame()
                .map_err(|error| fail("frames of the Connect protocol", error.to_string()))?
            {
                self.frames += 1;
                if self.frames > MAX_FRAMES {
                    return Err(fail(format!("at most {MAX_FRAMES} frames"), "more"));
                }
                return Ok(envelope);
            }
            match self.piece(limit).await? {
                Some(piece) => self.decoder.push(&piece),
                None => {
                    return Err(fail(
                        "an end frame before the body ends",
                        format!("the body ended after {} frames without one", self.frames),
                    ));
                }
            }
        }
    }

    async fn after_end(&mut self, limit: Duration) -> Result<(), Stop> {
        while let Some(piece) = self.piece(limit).await? {
            self.decoder.push(&piece);
        }
        self.decoder
            .finish()
            .map_err(|error| fail("nothing after the end frame", error.to_string()))
    }

    async fn piece(&mut self, limit: Duration) -> Result<Option<Bytes>, Stop> {
        let piece = self
            .opened
            .piece(limit)
            .await
            .map_err(|error| broken(&error))?;
        if let Some(piece) = &piece {
            self.evidence.came(piece);
        }
        Ok(piece)
    }
}
