//! A small contract, right and wrong.

use std::collections::BTreeMap;

use super::Contract;
use crate::contract::authorize;
use crate::contract::request::{Parts, check};
use crate::contract::template;
use crate::scenario::model::Credential;

const DOCUMENT: &str = r##"
openapi: 3.1.0
info: {title: t, version: "1"}
security: [{bearer: []}]
components:
  securitySchemes: {bearer: {type: http, scheme: bearer}}
  schemas:
    Thing:
      type: object
      required: [id, amount, when]
      additionalProperties: false
      properties:
        id: {type: string, format: uuid}
        amount: {type: integer, minimum: 10, maximum: 20, multipleOf: 3}
        when: {type: string, format: date}
        tags: {type: array, items: {enum: [a, b]}, minItems: 2}
paths:
  /things/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
    get:
      operationId: getThing
      parameters: [{name: limit, in: query, schema: {type: integer, maximum: 9}}]
      responses: {"200": {description: ok, content: {application/json: {schema: {$ref: "#/components/schemas/Thing"}}}}}
  /things:
    post:
      operationId: makeThing
      requestBody:
        required: true
        content: {application/json: {schema: {type: object, required: [amount], properties: {amount: {type: integer}}}}}
      responses:
        "201": {description: made, content: {application/json: {schema: {$ref: "#/components/schemas/Thing"}}}}
        "422": {description: wrong}
"##;

fn status(contract: &Contract, path: &str, query: &str, body: &str, kind: &str) -> Option<u16> {
    let found = contract.at_path(path);
    let (operation, parameters) = found.first().unwrap();
    let headers = BTreeMap::from([("content-type".to_owned(), kind.to_owned())]);
    let query = template::query(query);
    let parts = Parts {
        path: parameters,
        query: &query,
        headers: &headers,
        body: body.as_bytes(),
    };
    check(operation, &parts).map(|reply| reply.status)
}

#[test]
fn what_is_generated_keeps_to_the_schema_and_to_the_seed() {
    let reply = |seed| {
        Contract::parse(DOCUMENT, "d", seed).unwrap().operations[0]
            .success
            .reply
            .clone()
    };
    let all = (0..50).map(reply).collect::<Vec<_>>();
    // Reading has validated each of them.
    assert_eq!(all[7], reply(7));
    assert!(all.iter().any(|other| *other != all[0]));
}

#[test]
fn requests_are_judged_as_the_contract_says() {
    let contract = Contract::parse(DOCUMENT, "d", 1).unwrap();
    let json = "application/json; charset=utf-8";
    let table = [
        ("/things/1", "", "", "", None),
        ("/things/one", "", "", "", Some(400)),
        ("/things/1", "limit=10", "", "", Some(400)),
        ("/things/1", "limit=x", "", "", Some(400)),
        ("/things", "", r#"{"amount": 1}"#, json, None),
        ("/things", "", r#"{"amount": "1"}"#, json, Some(422)),
        ("/things", "", "{}", json, Some(422)),
        ("/things", "", "{", json, Some(400)),
        ("/things", "", "", json, Some(422)),
        ("/things", "", "x", "text/plain", Some(415)),
    ];
    for (path, query, body, kind, expected) in table {
        assert_eq!(
            status(&contract, path, query, body, kind),
            expected,
            "{path}?{query} {body}"
        );
    }
    assert!(contract.at_path("/other").is_empty());
}

#[test]
fn credentials_are_unknown_known_or_good() {
    let contract = Contract::parse(DOCUMENT, "d", 1).unwrap();
    let credential = |token: &str, operations: &[&str]| Credential {
        token: token.into(),
        operations: operations.iter().map(|it| (*it).to_owned()).collect(),
    };
    let known = [credential("all", &[]), credential("make", &["makeThing"])];
    let call = |value: Option<&str>| {
        let headers = value
            .map(|value| ("authorization".to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        authorize::check(&contract.operations[0], &known, &headers).map(|reply| reply.status)
    };
    let seen = [
        None,
        Some("Bearer x"),
        Some("Basic all"),
        Some("bearer make"),
        Some("Bearer all"),
    ]
    .map(call);
    assert_eq!(contract.operations[0].id, "makeThing");
    assert_eq!(seen, [Some(401), Some(401), Some(401), None, None]);
    let get = BTreeMap::from([("authorization".to_owned(), "Bearer make".to_owned())]);
    assert_eq!(
        authorize::check(&contract.operations[1], &known, &get)
            .unwrap()
            .status,
        403
    );
}

#[test]
fn a_document_that_cannot_be_served_is_refused_with_its_line() {
    let example = DOCUMENT.replace(
        "responses: {\"200\": {description: ok, content: {application/json: {schema:",
        "responses: {\"200\": {description: ok, content: {application/json: {example: {id: x}, schema:",
    );
    let table = [
        ("version", DOCUMENT.replace("3.1.0", "3.0.3")),
        ("broken example", example),
        (
            "reference to nothing",
            DOCUMENT.replace(
                "application/json: {schema: {$ref: \"#/components/schemas/Thing",
                "application/json: {schema: {$ref: \"#/components/schemas/None",
            ),
        ),
        (
            "no operationId",
            DOCUMENT.replace("      operationId: getThing\n", ""),
        ),
        (
            "same operationId",
            DOCUMENT.replace("getThing", "makeThing"),
        ),
        ("no success", DOCUMENT.replace("\"201\"", "\"301\"")),
        (
            "cannot be generated",
            DOCUMENT.replace("format: date}", "pattern: \"^[0-9]{3}$\"}"),
        ),
        (
            "parameter in a cookie",
            DOCUMENT.replace("in: query", "in: cookie"),
        ),
        (
            "basic authentication",
            DOCUMENT.replace("scheme: bearer", "scheme: basic"),
        ),
    ];
    let seen = table.iter().map(|(what, text)| {
        format!(
            "{what}: {}",
            Contract::parse(text, "d.yaml", 1).expect_err(what)
        )
    });
    insta::assert_snapshot!(seen.collect::<Vec<_>>().join("\n"));
}
