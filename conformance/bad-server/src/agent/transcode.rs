//! Calls in protobuf: the request is handed on in JSON, and the answer comes back in protobuf.
//!
//! Errors of unary calls and the end frame of streams are JSON whatever the codec; Connect says so.

use axum::body::{Body, to_bytes};
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use serde_json::Value;

use super::connect::{self, Failure};
use super::proto;
use crate::reply::{bare, header};
use crate::world::World;

/// What a call in protobuf needs to be answered so.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    answer: &'static str,
    stream: bool,
}

/// A protobuf request as the JSON that the agent knows; none when it is JSON already.
pub fn request(
    w: &World,
    headers: &HeaderMap,
    method: &str,
    body: &[u8],
) -> Result<Option<(Codec, Bytes)>, Failure> {
    let kind = header(headers, "content-type").unwrap_or("");
    let stream = kind.starts_with("application/connect+proto");
    if !stream && !kind.starts_with("application/proto") {
        return Ok(None);
    }
    let (asked, answer) =
        proto::method(method).ok_or_else(|| Failure::new("unimplemented", "no such method"))?;
    let codec = Codec { answer, stream };
    if !stream {
        let value = proto::read(w, asked, body)?;
        return Ok(Some((codec, value.to_string().into())));
    }
    let mut frames = BytesMut::new();
    let mut rest = body;
    while rest.len() >= 5 {
        let flags = rest.get_u8();
        let length = usize::try_from(rest.get_u32()).unwrap_or(usize::MAX);
        let (payload, after) = rest
            .split_at_checked(length)
            .ok_or_else(|| Failure::new("invalid_argument", "the frames are not valid"))?;
        frames.extend_from_slice(&connect::frame(flags, &proto::read(w, asked, payload)?));
        rest = after;
    }
    Ok(Some((codec, frames.freeze())))
}

/// The agent's answer in protobuf.
pub async fn answer(w: &std::sync::Arc<World>, codec: Codec, response: Response) -> Response {
    if codec.stream {
        return streamed(w, codec, response);
    }
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    if !head.status.is_success() {
        if w.on("proto-errors-as-proto") {
            return bare(head.status.as_u16(), "application/proto", Body::empty());
        }
        return Response::from_parts(head, body.into());
    }
    if w.on("proto-as-json") {
        return Response::from_parts(head, body.into());
    }
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    bare(
        200,
        "application/proto",
        proto::written(w, codec.answer, &value),
    )
}

fn streamed(w: &std::sync::Arc<World>, codec: Codec, response: Response) -> Response {
    let (_, body) = response.into_parts();
    if w.on("proto-stream-as-json") {
        return bare(200, "application/connect+json", body);
    }
    let w = std::sync::Arc::clone(w);
    let pieces = body.into_data_stream();
    // Frames come whole or in parts; what is not whole yet is held.
    let frames = pieces.scan(BytesMut::new(), move |held, piece| {
        let out = piece.map(|piece| {
            held.extend_from_slice(&piece);
            let mut out = BytesMut::new();
            while let Some(frame) = next(held) {
                out.extend_from_slice(&translated(&w, codec, &frame));
            }
            out.freeze()
        });
        async move { Some(out) }
    });
    let frames = frames.filter(|piece| {
        let empty = piece.as_ref().is_ok_and(Bytes::is_empty);
        async move { !empty }
    });
    bare(
        200,
        "application/connect+proto",
        Body::from_stream(frames.chain(stream::empty())),
    )
}

fn next(held: &mut BytesMut) -> Option<Bytes> {
    let length: [u8; 4] = held.get(1..5)?.try_into().ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()? + 5;
    (held.len() >= length).then(|| held.split_to(length).freeze())
}

fn translated(w: &World, codec: Codec, frame: &[u8]) -> Vec<u8> {
    let (flags, payload) = (frame[0], &frame[5..]);
    let payload = if flags & 2 == 0 {
        let value: Value = serde_json::from_slice(payload).unwrap_or_default();
        proto::written(w, codec.answer, &value)
    } else if w.on("proto-end-as-proto") {
        Vec::new()
    } else {
        payload.to_vec()
    };
    let mut out = vec![flags];
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&payload);
    out
}
