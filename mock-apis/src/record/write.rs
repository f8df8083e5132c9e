//! A recorded scenario as YAML: what is of the scenario in lines, what came from outside in double quotes, which hide every character that
//! YAML would take for its own.

use std::fmt::Write;

use serde_json::Value;

use super::convert::Recording;
use crate::pure::schedule::Schedule;
use crate::scenario::model::{Reply, Route, Rule};

/// Longest key that YAML takes without a mark of its own is 1,024 characters; escapes count.
const LONG_KEY: usize = 1000;

/// The file's text; each of `about` is a line of comment at its head.
pub fn scenario(recording: &Recording, about: &[String]) -> String {
    let mut out = String::new();
    for line in about.iter().chain(&recording.notes) {
        let line: String = line
            .chars()
            .map(|c| {
                if c.is_control() || c == '\u{feff}' {
                    ' '
                } else {
                    c
                }
            })
            .collect();
        out += &format!("# {line}\n");
    }
    let scenario = &recording.scenario;
    out += &format!(
        "version: {}\nname: {}\nseed: {}\nservices:\n",
        scenario.version,
        quoted(&scenario.name),
        scenario.seed
    );
    for service in &scenario.services {
        out += &format!("  - name: {}\n", quoted(&service.name));
        out += if service.routes.is_empty() {
            "    routes: []\n"
        } else {
            "    routes:\n"
        };
        for it in &service.routes {
            route(it, &mut out);
        }
    }
    out
}

fn route(route: &Route, out: &mut String) {
    *out += &format!("      - operation: {}\n", quoted(&route.operation));
    for (name, text) in [("method", &route.method), ("path", &route.path)] {
        if let Some(text) = text {
            *out += &format!("        {name}: {}\n", quoted(text));
        }
    }
    if let Some(it) = &route.reply {
        reply(it, 8, out);
    }
    if !route.rules.is_empty() {
        *out += "        rules:\n";
    }
    for it in &route.rules {
        rule(it, out);
    }
}

fn rule(rule: &Rule, out: &mut String) {
    let schedule = match &rule.schedule {
        Schedule::First(calls) => format!("{{first: {calls}}}"),
        _ => "always".to_owned(),
    };
    *out += &format!("          - schedule: {schedule}\n");
    if !rule.when.query.is_empty() {
        let query = rule.when.query.iter();
        let query = query.map(|(name, value)| (name.clone(), value.clone().into()));
        *out += &format!(
            "            when: {{query: {}}}\n",
            flow(&Value::Object(query.collect()))
        );
    }
    if let Some(it) = &rule.reply {
        reply(it, 12, out);
    }
}

fn reply(reply: &Reply, indent: usize, out: &mut String) {
    let space = " ".repeat(indent);
    *out += &format!("{space}reply:\n{space}  status: {}\n", reply.status);
    if !reply.headers.is_empty() {
        let headers = reply.headers.iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.clone().into()));
        *out += &format!(
            "{space}  headers: {}\n",
            flow(&Value::Object(headers.collect()))
        );
    }
    if let Some(body) = &reply.body {
        *out += &format!("{space}  body: {}\n", flow(body));
    }
}

/// A value on one line.
pub fn flow(value: &Value) -> String {
    let mut out = String::new();
    put(value, &mut out);
    out
}

/// Bytes of a text when it is written, with what parts it from its neighbours.
pub fn size(text: &str) -> usize {
    quoted(text).len() + 6
}

fn put(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => *out += &quoted(text),
        Value::Array(items) => {
            *out += "[";
            for (i, item) in items.iter().enumerate() {
                *out += if i == 0 { "" } else { ", " };
                put(item, out);
            }
            *out += "]";
        }
        Value::Object(members) => {
            *out += "{";
            for (i, (name, member)) in members.iter().enumerate() {
                *out += if i == 0 { "" } else { ", " };
                let name = quoted(name);
                let long = name.len() > LONG_KEY;
                *out += &format!(
                    "{}{name}{}: ",
                    if long { "? " } else { "" },
                    if long { " " } else { "" }
                );
                put(member, out);
            }
            *out += "}";
        }
        other => *out += &other.to_string(),
    }
}

/// In double quotes; letters and digits of any script stay readable.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let code = u32::from(c);
        // Writing into a string does not fail.
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            '\n' => write!(out, "\\n"),
            ' '..='~' => write!(out, "{c}"),
            _ if c.is_alphanumeric() => write!(out, "{c}"),
            _ if code <= 0xff => write!(out, "\\x{code:02x}"),
            _ if code <= 0xffff => write!(out, "\\u{code:04x}"),
            _ => write!(out, "\\U{code:08x}"),
        };
    }
    out.push('"');
    out
}
