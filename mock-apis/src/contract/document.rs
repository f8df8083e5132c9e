//! Reading a document into operations with compiled schemas.

use std::collections::BTreeMap;
use std::path::Path;

use jsonschema::{Registry, Validator};
use serde_json::{Map, Value, json};

use super::bundle::Bundle;
use super::generate;
use super::template::Template;
use crate::fault::Reply;
use crate::scenario::yaml::{self, Document, escape};

const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];
const BASE: &str = "urn:openapi";

/// A document that was read.
#[derive(Debug)]
pub struct Contract {
    /// Its operations, in the order of the document's paths.
    pub operations: Vec<Operation>,
}

/// One operation.
#[derive(Debug)]
pub struct Operation {
    /// `operationId`.
    pub id: String,
    /// Its summary and description; without either, that of its success.
    pub about: String,
    /// What the shapes of parameters and body refer to, as `$defs`.
    pub defs: Map<String, Value>,
    /// Method, in capitals.
    pub method: String,
    /// Path.
    pub template: Template,
    /// Parameters.
    pub parameters: Vec<Parameter>,
    /// Body, when it takes one.
    pub body: Option<Body>,
    /// Ways to be let in, any of which will do; empty: nobody is asked.
    pub security: Vec<Vec<Scheme>>,
    /// Statuses that the contract knows; `default` is 0.
    pub statuses: Vec<u16>,
    /// What success looks like.
    pub success: Success,
}

/// One parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Name.
    pub name: String,
    /// `path`, `query` or `header`.
    pub place: String,
    /// Whether it must be there.
    pub required: bool,
    /// Type by its schema, to read its text by.
    pub kind: String,
    /// Its schema.
    pub schema: Validator,
    /// The same as JSON, with its description, for who has no document at hand.
    pub shape: Value,
}

/// A request's body.
#[derive(Debug)]
pub struct Body {
    /// Whether it must be there.
    pub required: bool,
    /// Schema of each media type.
    pub media: BTreeMap<String, Option<Validator>>,
    /// The media type to prefer, JSON if there is one, and its schema as JSON.
    pub shape: Option<(String, Value)>,
}

/// A success reply.
#[derive(Debug)]
pub struct Success {
    /// The reply.
    pub reply: Reply,
    /// Schema of its body.
    pub schema: Option<Validator>,
}

/// How a credential is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// `Authorization: Bearer …`.
    Bearer,
    /// This header.
    ApiKey(String),
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// It cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is no YAML or JSON.
    #[error("{path}:{line}: {error}")]
    Yaml {
        /// The file.
        path: String,
        /// Line.
        line: usize,
        /// Why.
        error: yaml::YamlError,
    },
    /// It is no contract that can be served.
    #[error("{path}:{line}: {flaw} (at {pointer})")]
    Flaw {
        /// The file.
        path: String,
        /// Line.
        line: usize,
        /// Place.
        pointer: String,
        /// What.
        flaw: Flaw,
    },
}

/// What is wrong with a contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Another version.
    #[error("`openapi` is 3.1.x")]
    Version,
    /// No paths.
    #[error("there are no `paths`")]
    NoPaths,
    /// An operation that rules cannot name.
    #[error("an operation has an `operationId` of its own")]
    OperationId,
    /// Elsewhere or nowhere.
    #[error("`{0}` is not in this document")]
    Reference(String),
    /// A schema that is none.
    #[error("the schema is refused: {0}")]
    Schema(String),
    /// A parameter in a cookie, or without a name.
    #[error("a parameter has a name and is in path, query or header")]
    Parameter,
    /// Nothing to answer.
    #[error("an operation has a reply of success, with a status of its own")]
    NoSuccess,
    /// A reply that breaks its own schema.
    #[error("the {what} breaks the schema: {error}")]
    Example {
        /// Example, or what was generated.
        what: &'static str,
        /// How.
        error: String,
    },
    /// A way in that is not known here.
    #[error("a security scheme is http bearer, or an apiKey in a header")]
    Security,
}

type At<T> = Result<T, (String, Flaw)>;

impl Contract {
    /// Reads the document at `path`; what is generated depends on `seed`.
    pub fn read(path: &Path, seed: u64) -> Result<Self, ContractError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ContractError::Read {
            path: name.clone(),
            error,
        })?;
        Self::parse(&text, &name, seed)
    }

    /// Reads a document's text; `name` is for errors.
    pub fn parse(text: &str, name: &str, seed: u64) -> Result<Self, ContractError> {
        let path = name.to_owned();
        let document = yaml::parse(text).map_err(|(line, error)| ContractError::Yaml {
            path: path.clone(),
            line,
            error,
        })?;
        build(&document, seed).map_err(|(pointer, flaw)| ContractError::Flaw {
            path,
            line: document.line(&pointer),
            pointer,
            flaw,
        })
    }

    /// Operations whose path is `path`, the most exact template first, with its parameters.
    pub fn at_path(&self, path: &str) -> Vec<(&Operation, BTreeMap<String, String>)> {
        let mut all: Vec<_> = self
            .operations
            .iter()
            .filter_map(|operation| Some((operation, operation.template.matches(path)?)))
            .collect();
        all.sort_by_key(|(operation, _)| std::cmp::Reverse(operation.template.fixed()));
        let most = all
            .first()
            .map_or(0, |(operation, _)| operation.template.fixed());
        all.retain(|(operation, _)| operation.template.fixed() == most);
        all
    }
}

struct Reader<'a> {
    root: &'a Value,
    registry: &'a Registry<'a>,
    seed: u64,
}

fn build(document: &Document, seed: u64) -> At<Contract> {
    let root = &document.value;
    if !root["openapi"]
        .as_str()
        .is_some_and(|version| version.starts_with("3.1."))
    {
        return Err(("/openapi".into(), Flaw::Version));
    }
    let registry = Registry::new()
        .add(BASE, root.clone())
        .and_then(jsonschema::RegistryBuilder::prepare)
        .map_err(|error| (String::new(), Flaw::Schema(error.to_string())))?;
    let reader = Reader {
        root,
        registry: &registry,
        seed,
    };
    let paths = root["paths"]
        .as_object()
        .ok_or((String::new(), Flaw::NoPaths))?;
    let mut operations: Vec<Operation> = Vec::new();
    for (path, item) in paths {
        for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
            let at = format!("/paths/{}/{method}", escape(path));
            let operation = reader.operation(path, method, &at)?;
            if operations.iter().any(|other| other.id == operation.id) {
                return Err((at, Flaw::OperationId));
            }
            operations.push(operation);
        }
    }
    Ok(Contract { operations })
}

impl Reader<'_> {
    /// The value at `pointer` and where it really stands, `$ref` followed (ten at most: a circle is no value).
    fn resolve(&self, pointer: &str) -> At<(String, &Value)> {
        let mut at = pointer.to_owned();
        for _ in 0..10 {
            let value = self
                .root
                .pointer(&at)
                .ok_or((pointer.to_owned(), Flaw::Reference(at.clone())))?;
            match value.get("$ref").and_then(Value::as_str) {
                None => return Ok((at, value)),
                Some(reference) => {
                    let target = reference.strip_prefix('#').map(super::template::decode);
                    at = target.ok_or((at, Flaw::Reference(reference.to_owned())))?;
                }
            }
        }
        Err((pointer.to_owned(), Flaw::Reference(at)))
    }

    fn validator(&self, pointer: &str) -> At<Validator> {
        // A pointer within a URI: what a fragment may not hold is escaped.
        let fragment = pointer
            .replace('%', "%25")
            .replace('{', "%7B")
            .replace('}', "%7D");
        jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .with_registry(self.registry)
            .should_validate_formats(true)
            .build(&json!({"$ref": format!("{BASE}#{fragment}")}))
            .map_err(|error| (pointer.to_owned(), Flaw::Schema(error.to_string())))
    }

    fn operation(&self, path: &str, method: &str, at: &str) -> At<Operation> {
        let value = self.root.pointer(at).unwrap_or(&Value::Null);
        let id = value["operationId"]
            .as_str()
            .ok_or((at.to_owned(), Flaw::OperationId))?
            .to_owned();
        let mut bundle = Bundle::new(self.root);
        let mut parameters: Vec<Parameter> = Vec::new();
        for list in [
            format!("{at}/parameters"),
            format!("/paths/{}/parameters", escape(path)),
        ] {
            let count = self
                .root
                .pointer(&list)
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            for i in 0..count {
                let parameter = self.parameter(&format!("{list}/{i}"), &mut bundle)?;
                let known =
                    |it: &Parameter| it.name == parameter.name && it.place == parameter.place;
                if !parameters.iter().any(known) {
                    parameters.push(parameter);
                }
            }
        }
        Ok(Operation {
            method: method.to_uppercase(),
            template: Template::new(path),
            parameters,
            body: value
                .get("requestBody")
                .map(|_| self.body(&format!("{at}/requestBody"), &mut bundle))
                .transpose()?,
            defs: bundle.defs,
            about: about(value),
            security: self.security(value, at)?,
            statuses: value["responses"]
                .as_object()
                .map(|all| {
                    all.keys()
                        .map(|status| status.parse().unwrap_or(0))
                        .collect()
                })
                .unwrap_or_default(),
            success: self.success(&id, value, at)?,
            id,
        })
    }

    fn parameter(&self, pointer: &str, bundle: &mut Bundle<'_>) -> At<Parameter> {
        let (at, value) = self.resolve(pointer)?;
        let (Some(name), Some(place @ ("path" | "query" | "header"))) =
            (value["name"].as_str(), value["in"].as_str())
        else {
            return Err((at, Flaw::Parameter));
        };
        let schema = format!("{at}/schema");
        let (_, resolved) = self.resolve(&schema)?;
        Ok(Parameter {
            name: name.to_owned(),
            place: place.to_owned(),
            required: place == "path" || value["required"] == true,
            kind: resolved["type"].as_str().unwrap_or("string").to_owned(),
            shape: described(bundle.take(&schema), &value["description"]),
            schema: self.validator(&schema)?,
        })
    }

    fn body(&self, pointer: &str, bundle: &mut Bundle<'_>) -> At<Body> {
        let (at, value) = self.resolve(pointer)?;
        let mut media = BTreeMap::new();
        let kinds = value["content"].as_object().into_iter().flatten();
        let kinds: Vec<_> = kinds.map(|(kind, _)| kind.as_str()).collect();
        let preferred = kinds.iter().find(|kind| is_json(kind)).or(kinds.first());
        let shape = preferred.map(|kind| {
            let schema = bundle.take(&format!("{at}/content/{}/schema", escape(kind)));
            let schema = described(schema, &value["description"]);
            (kind.to_ascii_lowercase(), schema)
        });
        for (kind, content) in value["content"].as_object().into_iter().flatten() {
            let schema = content
                .get("schema")
                .map(|_| self.validator(&format!("{at}/content/{}/schema", escape(kind))));
            media.insert(kind.to_ascii_lowercase(), schema.transpose()?);
        }
        Ok(Body {
            required: value["required"] == true,
            media,
            shape,
        })
    }

    fn security(&self, operation: &Value, at: &str) -> At<Vec<Vec<Scheme>>> {
        let list = operation
            .get("security")
            .or_else(|| self.root.get("security"));
        let mut ways = Vec::new();
        for way in list.and_then(Value::as_array).into_iter().flatten() {
            let names = way.as_object().into_iter().flatten().map(|(name, _)| name);
            let schemes = names.map(|name| {
                let (at, scheme) =
                    self.resolve(&format!("/components/securitySchemes/{}", escape(name)))?;
                match (
                    scheme["type"].as_str(),
                    scheme["scheme"].as_str(),
                    scheme["in"].as_str(),
                    scheme["name"].as_str(),
                ) {
                    (Some("http"), Some("bearer"), ..) => Ok(Scheme::Bearer),
                    (Some("apiKey"), _, Some("header"), Some(name)) => {
                        Ok(Scheme::ApiKey(name.to_ascii_lowercase()))
                    }
                    _ => Err((at, Flaw::Security)),
                }
            });
            ways.push(
                schemes
                    .collect::<At<Vec<_>>>()
                    .map_err(|(_, flaw)| (at.to_owned(), flaw))?,
            );
        }
        Ok(ways)
    }

    fn success(&self, id: &str, operation: &Value, at: &str) -> At<Success> {
        let statuses = operation["responses"].as_object().into_iter().flatten();
        let status = statuses
            .filter_map(|(key, _)| key.parse::<u16>().ok())
            .find(|status| (200..300).contains(status))
            .ok_or((at.to_owned(), Flaw::NoSuccess))?;
        let (at, response) = self.resolve(&format!("{at}/responses/{status}"))?;
        let Some((kind, content)) = response["content"]
            .as_object()
            .and_then(|all| all.iter().next())
        else {
            return Ok(Success {
                reply: Reply::new(status),
                schema: None,
            });
        };
        let at = format!("{at}/content/{}", escape(kind));
        let schema = content
            .get("schema")
            .map(|_| self.validator(&format!("{at}/schema")))
            .transpose()?;
        let example = content.get("example").cloned().or_else(|| {
            let (name, _) = content["examples"].as_object()?.iter().next()?;
            let (_, example) = self
                .resolve(&format!("{at}/examples/{}", escape(name)))
                .ok()?;
            example.get("value").cloned()
        });
        let what = if example.is_some() {
            "example"
        } else {
            "generated reply"
        };
        let body = example.unwrap_or_else(|| {
            let mut rng = crate::pure::seed::generator(self.seed, &["generate", id], 0);
            generate::value(self.root, &content["schema"], &mut rng, 0)
        });
        if let Some(Err(error)) = schema.as_ref().map(|schema| schema.validate(&body)) {
            let error = format!("{error} (at `{}`)", error.instance_path());
            return Err((at, Flaw::Example { what, error }));
        }
        Ok(Success {
            reply: Reply::json(status, kind, &body),
            schema,
        })
    }
}

/// Whether bodies of this media type, in small letters and without parameters, are JSON.
pub fn is_json(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}

/// What an operation says about itself.
fn about(operation: &Value) -> String {
    let own = ["summary", "description"].map(|name| operation[name].as_str());
    let replies = operation["responses"].as_object().into_iter().flatten();
    let success = replies
        .filter(|(status, _)| status.starts_with('2'))
        .find_map(|(_, reply)| reply["description"].as_str());
    let mut said: Vec<_> = own.into_iter().flatten().collect();
    if said.is_empty() {
        said.extend(success);
    }
    said.join("\n\n")
}

/// `schema`, with this description if it has none of its own.
fn described(schema: Value, description: &Value) -> Value {
    match schema {
        Value::Object(mut members) if description.is_string() => {
            members
                .entry("description")
                .or_insert_with(|| description.clone());
            Value::Object(members)
        }
        other => other,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
