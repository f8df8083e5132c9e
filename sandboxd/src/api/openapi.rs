//! The OpenAPI 3.1 document, made from the table of routes and the schemas of the wire types.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::routes::{Access, Route, Shape, all};

/// Adds the schema of a type, and of the types in it.
fn add<T: ToSchema>(schemas: &mut Map<String, Value>) {
    let mut inner = Vec::new();
    T::schemas(&mut inner);
    inner.push((T::name().into_owned(), T::schema()));
    for (name, schema) in inner {
        if let Ok(value) = serde_json::to_value(schema) {
            schemas.insert(name, value);
        }
    }
}

fn schemas() -> Map<String, Value> {
    use super::{
        checkpoints, error, forks, lifetime, logs, metrics, pausing, sandboxes, snapshot, templates,
    };
    let mut map = Map::new();
    add::<error::ErrorBody>(&mut map);
    add::<sandboxes::wire::CreateRequest>(&mut map);
    add::<sandboxes::wire::Sandbox>(&mut map);
    add::<sandboxes::wire::ListedSandbox>(&mut map);
    add::<sandboxes::wire::SandboxDetail>(&mut map);
    add::<lifetime::wire::TimeoutRequest>(&mut map);
    add::<lifetime::wire::RefreshRequest>(&mut map);
    add::<lifetime::wire::ConnectRequest>(&mut map);
    add::<pausing::wire::PauseRequest>(&mut map);
    add::<pausing::wire::ResumeRequest>(&mut map);
    add::<snapshot::wire::SnapshotRequest>(&mut map);
    add::<snapshot::wire::SnapshotInfo>(&mut map);
    add::<forks::wire::ForkRequest>(&mut map);
    add::<forks::wire::Fork>(&mut map);
    add::<checkpoints::wire::CheckpointRequest>(&mut map);
    add::<checkpoints::wire::Checkpoint>(&mut map);
    add::<checkpoints::wire::RollbackRequest>(&mut map);
    add::<crate::egress::options::NetworkUpdate>(&mut map);
    add::<metrics::wire::SandboxMetric>(&mut map);
    add::<metrics::wire::LatestMetrics>(&mut map);
    add::<logs::wire::SandboxLogs>(&mut map);
    add::<logs::wire::SandboxLogsV2>(&mut map);
    add::<templates::wire::TemplateInfo>(&mut map);
    add::<templates::wire::TemplateDetail>(&mut map);
    add::<templates::wire::TemplateAlias>(&mut map);
    map.insert("OpenApi".to_owned(), json!({"type": "object"}));
    map
}

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in all() {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(route.method.to_ascii_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "sandboxd",
            "description": "E2B-compatible control API over KVM microVMs",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-KEY"},
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<_> = path_parameters(route.path)
        .map(|name| {
            json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
        })
        .collect();
    parameters.extend(
        route
            .query
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}})),
    );
    let mut responses = Map::new();
    for (status, shape) in route.success {
        responses.insert(status.to_string(), success(*shape));
    }
    let keyed: &[u16] = match route.access {
        Access::Key => &[401, 500],
        Access::Open => &[],
    };
    for status in route.refusals.iter().chain(keyed) {
        let content = json!({"application/json": {"schema": reference("ErrorBody")}});
        let refusal = json!({"description": "Refused or failed", "content": content});
        responses.insert(status.to_string(), refusal);
    }
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = route.body {
        operation["requestBody"] = json!({
            "content": {"application/json": {"schema": reference(body)}},
        });
    }
    if route.access == Access::Key {
        operation["security"] = json!([{"ApiKey": []}]);
    }
    operation
}

fn success(shape: Shape) -> Value {
    let content = match shape {
        Shape::Empty => return json!({"description": "Done"}),
        Shape::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
        Shape::One(name) => json!({"application/json": {"schema": reference(name)}}),
        Shape::Many(name) => {
            let schema = json!({"type": "array", "items": reference(name)});
            json!({"application/json": {"schema": schema}})
        }
    };
    json!({"description": "Done", "content": content})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// Method and path as one word, such as `postV2Sandboxes`.
fn operation_id(route: &Route) -> String {
    let mut id = route.method.to_ascii_lowercase();
    for word in route.path.split(['/', '{', '}', '-', '.']) {
        let mut letters = word.chars();
        if let Some(first) = letters.next() {
            id.push(first.to_ascii_uppercase());
            id.push_str(letters.as_str());
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::{all, document};

    /// Every `$ref` in a document.
    fn references(value: &Value, found: &mut HashSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(to)) = members.get("$ref") {
                    found.insert(to.clone());
                }
                members.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_listed_once() {
        let document = document();
        let mut ids = HashSet::new();
        for route in all() {
            let method = route.method.to_ascii_lowercase();
            let operation = &document["paths"][route.path][&method];
            assert!(operation.is_object(), "{} {}", route.method, route.path);
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert!(ids.insert(id), "{} {} twice", route.method, route.path);
        }
        let listed = document["paths"].as_object().unwrap().values();
        let operations: usize = listed.map(|item| item.as_object().unwrap().len()).sum();
        assert_eq!(operations, all().count());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = HashSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_routes() {
        let lines: Vec<_> = all()
            .map(|route| {
                let success: Vec<_> = route.success.iter().map(|(s, _)| s.to_string()).collect();
                format!("{} {} {}", route.method, route.path, success.join(" "))
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
