//! 400: the request is wrong, and the reply says which fields.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Answers 400 with the fields that are wrong.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BadRequest {
    /// JSON pointer of each wrong field, and what is wrong with it.
    pub errors: BTreeMap<String, String>,
}

impl Effect for BadRequest {
    const ABOUT: &'static str = "400 with field errors";

    fn act(&self, _: &mut Scene<'_>) -> Act {
        let error = |(pointer, detail): (&String, &String)| serde_json::json!({"pointer": pointer, "detail": detail});
        let errors = self.errors.iter().map(error).collect::<Vec<_>>();
        Act::Reply(Reply::problem(400, "Bad Request", serde_json::json!({"errors": errors})))
    }
}
