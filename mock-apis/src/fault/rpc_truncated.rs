//! A message of the MCP face that is cut while the HTTP around it is whole; on the HTTP face, where there is none to cut, a body that is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::malformed_json::MalformedJson;
use super::truncated_body::TruncatedBody;
use super::{Act, Effect, Scene};

/// Answers with the first half of a JSON-RPC message.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RpcTruncated {}

impl Effect for RpcTruncated {
    const ABOUT: &'static str = "MCP: half of a JSON-RPC message in a whole HTTP reply; HTTP: as truncated_body";
    const MESSAGE: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        match super::rpc_message(scene.normal) {
            Some(_) => MalformedJson {}.act(scene),
            None => TruncatedBody {}.act(scene),
        }
    }
}
