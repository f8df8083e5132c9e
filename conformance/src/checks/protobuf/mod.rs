//! The agent's services in protobuf: the same calls as in JSON, which most of the suite speaks. Checks stand in the area of
//! their service.

mod filesystem;
mod process;
mod watch;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use crate::check::{Check, Stop, fail};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::connect::Stream;
use crate::wire::envelope;
use crate::wire::proto::{self, Message, codec, schema};
use crate::wire::reply::Reply;
use crate::wire::request::Request;

pub fn all() -> Vec<Check> {
    [process::CHECKS, filesystem::CHECKS, watch::CHECKS].concat()
}

fn messages(method: &str) -> Result<(&'static Message, &'static Message), Stop> {
    schema::method(method).ok_or_else(|| Stop::Harness(format!("no messages for {method}")))
}

fn encoded(method: &str, body: &Value) -> Result<Vec<u8>, Stop> {
    let (asked, _) = messages(method)?;
    codec::encode(asked, body).map_err(|error| Stop::Harness(error.to_string()))
}

fn request(
    c: &Context,
    sandbox: &Sandbox,
    method: &str,
    kind: &str,
    body: impl Into<Bytes>,
) -> Request {
    sandbox
        .agent(c, Method::POST, &format!("/{method}"))
        .header("connect-protocol-version", "1")
        .header("content-type", kind)
        .body(body)
}

/// A unary call; any reply is a result.
async fn call(c: &Context, sandbox: &Sandbox, method: &str, body: &Value) -> Result<Reply, Stop> {
    let bytes = encoded(method, body)?;
    c.send(request(c, sandbox, method, proto::UNARY, bytes))
        .await
}

/// A unary call that must succeed, and its answer.
async fn rpc(c: &Context, sandbox: &Sandbox, method: &str, body: &Value) -> Result<Value, Stop> {
    let reply = call(c, sandbox, method, body).await?;
    reply.status(200)?;
    if !reply.header("content-type").starts_with(proto::UNARY) {
        return Err(fail(
            format!("content type {}", proto::UNARY),
            format!("{:?}", reply.header("content-type")),
        ));
    }
    let (_, answer) = messages(method)?;
    codec::decode(answer, &reply.body).map_err(|error| {
        fail(
            format!("{} as protobuf", answer.name),
            format!("{error} in {:?}", reply.body),
        )
    })
}

/// A server stream.
async fn stream(
    c: &Context,
    sandbox: &Sandbox,
    method: &str,
    body: &Value,
) -> Result<Stream, Stop> {
    let frame = envelope::encoded(0, &encoded(method, body)?);
    let (_, answer) = messages(method)?;
    c.stream_as(
        request(c, sandbox, method, proto::STREAM, frame),
        Some(answer),
    )
    .await
}
