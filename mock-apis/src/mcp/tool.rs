//! Operations as tools.
//!
//! ```text
//! GET /flights/{id}?currency=  of `flights`  ─►  flights_read {id, currency?}
//! POST /payments                             ─►  payments_pay {body, "X-Approval-Token"?, idempotency_key?}
//! a route without contract                   ─►  SERVICE_OPERATION {each path parameter, query?, body?}
//! ```

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::contract::Operation;
use crate::contract::template::Template;
use crate::engine::{Engine, Target};
use crate::pure::idempotency::Policy;

/// Longest name that MCP allows.
pub const LONGEST: usize = 128;

/// A tool: what callers are told of it, and what becomes of its arguments.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Name: letters, digits, `_` and `-`.
    pub name: String,
    /// What it does.
    pub about: String,
    /// Index of its service.
    pub service: usize,
    /// Name of its service.
    pub service_name: String,
    /// Name of its operation.
    pub operation: String,
    /// Method of its requests.
    pub method: String,
    /// Path of its requests.
    pub template: Template,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// What their schemas refer to.
    pub defs: Map<String, Value>,
}

/// An argument.
#[derive(Debug, Clone)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What it becomes.
    pub place: Place,
    /// Whether it must be there.
    pub required: bool,
    /// Its schema.
    pub schema: Value,
}

/// What an argument becomes in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// This path parameter.
    Path(String),
    /// This query parameter.
    Query(String),
    /// All query parameters.
    AllQuery,
    /// This header, in small letters.
    Header(String),
    /// The body, of this media type.
    Body(String),
}

impl Tool {
    /// The schema of its arguments.
    pub fn input_schema(&self) -> Map<String, Value> {
        let properties: Map<String, Value> = self
            .arguments
            .iter()
            .map(|argument| (argument.name.clone(), argument.schema.clone()))
            .collect();
        let required: Vec<_> = self
            .arguments
            .iter()
            .filter(|argument| argument.required)
            .map(|argument| argument.name.as_str())
            .collect();
        let schema = json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        });
        let Value::Object(mut schema) = schema else {
            return Map::new();
        };
        if !self.defs.is_empty() {
            schema.insert("$defs".into(), Value::Object(self.defs.clone()));
        }
        schema
    }
}

/// All tools of a scenario, by name.
pub fn tools(engine: &Engine) -> Vec<Tool> {
    let mut names = BTreeSet::new();
    let mut all: Vec<_> = engine
        .operations()
        .map(|(service, target)| {
            let service_name = engine.scenario.services[service].name.clone();
            let wanted = format!("{service_name}_{}", target.operation);
            tool(free(&wanted, &mut names), service, service_name, target)
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// `wanted` in the letters that MCP allows, with a number behind it when another has that name.
fn free(wanted: &str, taken: &mut BTreeSet<String>) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let good = |c: char| if good(c) { c } else { '_' };
    let base: String = wanted.chars().map(good).take(LONGEST).collect();
    let numbered = (2_u64..).map(|n| {
        let end = format!("_{n}");
        format!("{}{end}", &base[..base.len().min(LONGEST - end.len())])
    });
    let name = std::iter::once(base.clone())
        .chain(numbered)
        .find(|name| !taken.contains(name));
    // The numbers have no end.
    let name = name.unwrap_or(base);
    taken.insert(name.clone());
    name
}

fn tool(name: String, service: usize, service_name: String, target: &Target) -> Tool {
    let (mut arguments, defs) = match &target.contract {
        Some(operation) => (described(operation), operation.defs.clone()),
        None => (plain(&target.template), Map::new()),
    };
    let keyed = |it: &Argument| it.place == Place::Header("idempotency-key".into());
    if target.route.idempotency != Policy::Ignored && !arguments.iter().any(keyed) {
        arguments.push(Argument {
            name: "idempotency_key".into(),
            place: Place::Header("idempotency-key".into()),
            required: target.route.idempotency == Policy::Required,
            schema: json!({
                "type": "string",
                "description": "the same for each attempt at the same work, another for other work",
            }),
        });
    }
    // `id` in the path and `id` in the query are two arguments.
    let mut taken = BTreeSet::new();
    for argument in &mut arguments {
        while !taken.insert(argument.name.clone()) {
            argument.name.push('_');
        }
    }
    let about = target.contract.as_ref().map_or("", |it| it.about.as_str());
    let line = format!("{} {}", target.method, target.template);
    Tool {
        name,
        about: if about.is_empty() {
            line
        } else {
            format!("{about}\n\n{line}")
        },
        service,
        service_name,
        operation: target.operation.clone(),
        method: target.method.clone(),
        template: target.template.clone(),
        arguments,
        defs,
    }
}

/// The arguments of an operation, by its contract.
fn described(operation: &Operation) -> Vec<Argument> {
    let mut all = Vec::new();
    for parameter in &operation.parameters {
        let name = parameter.name.clone();
        let place = match parameter.place.as_str() {
            "path" => Place::Path(name.clone()),
            "query" => Place::Query(name.clone()),
            // OpenAPI does not let parameters have these names.
            _ if ["accept", "content-type", "authorization"]
                .contains(&name.to_ascii_lowercase().as_str()) =>
            {
                continue;
            }
            _ => Place::Header(name.to_ascii_lowercase()),
        };
        all.push(Argument {
            name,
            place,
            required: parameter.required,
            schema: parameter.shape.clone(),
        });
    }
    // What the path has and the parameters do not tell of is needed all the same.
    for name in operation.template.parameters() {
        if !all.iter().any(|it| it.place == Place::Path(name.into())) {
            all.push(in_path(name));
        }
    }
    let body = operation.body.as_ref();
    if let Some((body, (kind, schema))) = body.and_then(|it| Some((it, it.shape.clone()?))) {
        all.push(Argument {
            name: "body".into(),
            place: Place::Body(kind),
            required: body.required,
            schema,
        });
    }
    all
}

/// The arguments of a route that no contract describes.
fn plain(template: &Template) -> Vec<Argument> {
    let mut all: Vec<_> = template.parameters().map(in_path).collect();
    all.push(Argument {
        name: "query".into(),
        place: Place::AllQuery,
        required: false,
        schema: json!({"type": "object", "description": "query parameters"}),
    });
    all.push(Argument {
        name: "body".into(),
        place: Place::Body("application/json".into()),
        required: false,
        schema: json!({"description": "body, as JSON"}),
    });
    all
}

fn in_path(name: &str) -> Argument {
    Argument {
        name: name.to_owned(),
        place: Place::Path(name.to_owned()),
        required: true,
        schema: json!({"type": "string"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Tool> {
        let scenario = crate::scenario::from_text(text).unwrap();
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"));
        tools(&Engine::new(scenario, folder).unwrap())
    }

    #[test]
    fn tools_are_what_the_contract_says() {
        let text = include_str!("../../scenarios/travel.yaml");
        let said: Vec<_> = of(text)
            .iter()
            .map(|tool| json!([tool.name, tool.about, tool.input_schema()]))
            .collect();
        insta::assert_json_snapshot!(said);
    }

    #[test]
    fn names_are_those_that_mcp_allows_and_each_is_another() {
        let mut taken = BTreeSet::new();
        let long = "x".repeat(200);
        let mut free = |name: &str| free(name, &mut taken);
        assert_eq!(free("a_get /ü"), "a_get___");
        assert_eq!(free("a_get_/ü"), "a_get____2");
        assert_eq!(free(&long).len(), LONGEST);
        let second = free(&long);
        assert!(second.len() == LONGEST && second.ends_with("_2"));
    }

    #[test]
    fn arguments_of_one_name_are_kept_apart() {
        let route = "{operation: x, method: GET, path: '/{query}/{body}', reply: {status: 200}}";
        let text = format!("version: 1\nname: n\nservices:\n  - name: a\n    routes: [{route}]\n");
        let tools = of(&text);
        let names: Vec<_> = tools[0]
            .arguments
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        assert_eq!(names, ["query", "body", "query_", "body_"]);
    }
}
