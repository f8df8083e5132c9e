//! 422: the request is well-formed and makes no sense.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Answers 422 with the fields that are wrong.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Unprocessable {
    /// JSON pointer of each wrong field, and what is wrong with it.
    pub errors: BTreeMap<String, String>,
}

impl Effect for Unprocessable {
    const ABOUT: &'static str = "422 with field errors";

    fn act(&self, _: &mut Scene<'_>) -> Act {
        let error = |(pointer, detail): (&String, &String)| serde_json::json!({"pointer": pointer, "detail": detail});
        let errors = self.errors.iter().map(error).collect::<Vec<_>>();
        Act::Reply(Reply::problem(422, "Unprocessable Content", serde_json::json!({"errors": errors})))
    }
}
