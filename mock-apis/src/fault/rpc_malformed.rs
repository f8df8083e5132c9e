//! A message of the MCP face that is no JSON-RPC; on the HTTP face, where there is none to spoil, a body that is no JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use serde_json::{Value, json};

use super::malformed_json::MalformedJson;
use super::{Act, Effect, Scene};

/// Answers with what is no JSON-RPC.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RpcMalformed {
    /// What is wrong with the message.
    pub how: How,
}

/// What is wrong with a JSON-RPC message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It does not say that it is JSON-RPC, and has neither a result nor an error.
    #[default]
    NoEnvelope,
    /// It answers a request that nobody sent.
    OtherId,
    /// It has a result and an error.
    ResultAndError,
}

impl Effect for RpcMalformed {
    const ABOUT: &'static str = "MCP: a message that is JSON and no right JSON-RPC; HTTP: as malformed_json";
    const MESSAGE: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let message = super::rpc_message(scene.normal);
        let Some(mut message) = message else { return MalformedJson {}.act(scene) };
        match self.how {
            How::NoEnvelope => message = json!({"reply": message["result"]}),
            How::OtherId => message["id"] = json!("nobody-asked"),
            How::ResultAndError => {
                message["result"] = message.get("result").cloned().unwrap_or(json!({}));
                message["error"] = json!({"code": -32603, "message": "Internal error"});
            }
        }
        let mut reply = scene.normal.clone();
        reply.body = Value::to_string(&message).into();
        Act::Reply(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, OnMessage, Reply};

    fn spoilt(how: How) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": 3, "result": {"content": []}});
        let reply = Reply::json(200, "application/json", &message);
        let (rng, now) = (crate::pure::seed::generator(0, &[], 0), std::time::SystemTime::UNIX_EPOCH);
        let fault = Fault::RpcMalformed(RpcMalformed { how });
        match (OnMessage { fault, rng, now }).act(&reply, "/mcp") {
            Act::Reply(reply) => reply.value().expect("JSON all the same"),
            Act::Raw(_) => panic!("a script"),
        }
    }

    #[test]
    fn each_way_of_being_no_json_rpc() {
        assert_eq!(spoilt(How::NoEnvelope), json!({"reply": {"content": []}}));
        let other = spoilt(How::OtherId);
        assert!(other["id"] != 3 && other["result"].is_object());
        let both = spoilt(How::ResultAndError);
        assert!(both["id"] == 3 && both["result"].is_object() && both["error"].is_object());
    }
}
