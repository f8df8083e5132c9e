//! From a reply to the result of a tool.
//!
//! ```text
//! 2xx      content: the body as text;                      structuredContent: the body, when it is a JSON object
//! others   content: "429 Too Many Requests", the headers, the body;   isError
//! all      _meta: {"mock-apis/reply": {status, headers}}
//! ```

use rmcp::model::{CallToolResult, ContentBlock, MetaObject};
use serde_json::{Map, Value, json};

use crate::contract::document::is_json;
use crate::fault::Reply;

/// The result that says what `reply` says.
pub fn result(reply: &Reply) -> CallToolResult {
    let body = String::from_utf8_lossy(&reply.body);
    let good = (200..300).contains(&reply.status);
    let text = match (good, body.is_empty()) {
        (true, false) => body.into_owned(),
        (true, true) => status_line(reply),
        (false, _) => {
            let headers = reply.headers.iter();
            let headers: String = headers
                .map(|(name, value)| format!("{name}: {value}\n"))
                .collect();
            format!("{}\n{headers}\n{body}", status_line(reply))
        }
    };
    let content = vec![ContentBlock::text(text)];
    let mut result = if good {
        CallToolResult::success(content)
    } else {
        CallToolResult::error(content)
    };
    let kind = reply.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if good && is_json(kind) {
        result.structured_content = reply.value().filter(Value::is_object);
    }
    let headers: Map<String, Value> = reply
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let seen = json!({"status": reply.status, "headers": headers});
    let meta = Map::from_iter([("mock-apis/reply".to_owned(), seen)]);
    result.meta = Some(MetaObject(meta));
    result
}

fn status_line(reply: &Reply) -> String {
    let reason = http::StatusCode::from_u16(reply.status)
        .ok()
        .and_then(|status| status.canonical_reason());
    format!("{} {}", reply.status, reason.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(reply: &Reply) -> Value {
        serde_json::to_value(result(reply)).unwrap()
    }

    #[test]
    fn an_object_is_text_and_structure_and_anything_else_is_text() {
        let object = Reply::json(200, "application/json; charset=utf-8", &json!({"a": 1}));
        let result = said(&object);
        assert_eq!(result["structuredContent"], json!({"a": 1}));
        assert_eq!(result["content"][0]["text"], "{\"a\":1}");
        let broken = object.body("{\"a\"");
        for reply in [
            broken,
            Reply::json(200, "application/json", &json!([1])),
            Reply::json(200, "text/html", &json!({"a": 1})),
            Reply::new(204),
        ] {
            let result = said(&reply);
            assert_eq!(
                (&result["isError"], result.get("structuredContent")),
                (&json!(false), None)
            );
        }
    }

    #[test]
    fn an_error_says_its_status_when_to_come_back_and_why() {
        let reply = Reply::problem(429, "Too Many Requests", Value::Null).with("retry-after", "7");
        let result = said(&reply);
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("429 Too Many Requests\n") && text.contains("\nretry-after: 7\n"));
        assert!(text.ends_with('}') && result["isError"] == true);
        assert_eq!(result["_meta"]["mock-apis/reply"]["status"], 429);
        assert_eq!(said(&Reply::new(307))["isError"], true);
    }
}
