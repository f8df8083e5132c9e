//! From a Jupyter MIME bundle to the members of a result event.
//!
//! ```text
//! text/plain  text (outer quotes off)    image/svg+xml  svg      application/json        json
//! text/html   html                       image/png      png      application/javascript  javascript
//! text/markdown  markdown                image/jpeg     jpeg     e2b/data                data
//! text/latex  latex                      application/pdf  pdf    e2b/chart               chart
//! anything else goes to extra under its MIME type
//! ```

use serde::Serialize;
use serde_json::{Map, Value};

/// The members of a result event.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ResultData {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    markdown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    svg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    png: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jpeg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pdf: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    javascript: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chart: Option<Value>,
    extra: Map<String, Value>,
    is_main_result: bool,
}

impl ResultData {
    /// Sorts a bundle. What is not an object has no members.
    pub fn from_bundle(bundle: Value, is_main_result: bool) -> Self {
        let mut result = Self {
            is_main_result,
            ..Self::default()
        };
        let Value::Object(bundle) = bundle else {
            return result;
        };
        for (kind, value) in bundle.into_iter().filter(|(_, value)| !value.is_null()) {
            match kind.as_str() {
                "text/plain" => result.text = Some(without_quotes(text(value))),
                "text/html" => result.html = Some(text(value)),
                "text/markdown" => result.markdown = Some(text(value)),
                "image/svg+xml" => result.svg = Some(text(value)),
                "image/png" => result.png = Some(text(value)),
                "image/jpeg" => result.jpeg = Some(text(value)),
                "application/pdf" => result.pdf = Some(text(value)),
                "text/latex" => result.latex = Some(text(value)),
                "application/json" => result.json = Some(value),
                "application/javascript" => result.javascript = Some(text(value)),
                "e2b/data" => result.data = Some(value),
                // A figure nothing could be read from: no chart rather than an empty one.
                "e2b/chart" if value.as_object().is_some_and(Map::is_empty) => {}
                "e2b/chart" => result.chart = Some(value),
                _ => {
                    result.extra.insert(kind, value);
                }
            }
        }
        result
    }
}

/// Strings as they are, lists of strings joined (both are allowed), anything else as JSON.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(parts) if parts.iter().all(Value::is_string) => {
            parts.iter().filter_map(Value::as_str).collect()
        }
        other => other.to_string(),
    }
}

/// `'a'` and `"a"` become `a`: a string's value is shown, not its source.
fn without_quotes(text: String) -> String {
    let inner = ['\'', '"'].into_iter().find_map(|quote| {
        text.strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
            .map(str::to_owned)
    });
    inner.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn each_type_has_its_member_and_the_rest_is_extra() {
        let result = ResultData::from_bundle(
            json!({
                "text/plain": ["<Fig", "ure>"], "text/html": "<b>", "text/markdown": "*m*",
                "image/svg+xml": "<svg/>", "image/png": "cG5n", "image/jpeg": "anBn",
                "application/pdf": "cGRm", "text/latex": "$x$", "application/json": [1, {"a": null}],
                "application/javascript": "1", "e2b/data": {"a": [1]},
                "e2b/chart": {"type": "line"}, "application/x-own": {"k": 1}, "text/none": null,
            }),
            false,
        );
        insta::assert_json_snapshot!(result, @r#"
        {
          "text": "<Figure>",
          "html": "<b>",
          "markdown": "*m*",
          "svg": "<svg/>",
          "png": "cG5n",
          "jpeg": "anBn",
          "pdf": "cGRm",
          "latex": "$x$",
          "json": [
            1,
            {
              "a": null
            }
          ],
          "javascript": "1",
          "data": {
            "a": [
              1
            ]
          },
          "chart": {
            "type": "line"
          },
          "extra": {
            "application/x-own": {
              "k": 1
            }
          },
          "is_main_result": false
        }
        "#);
    }

    #[test]
    fn only_a_pair_of_outer_quotes_goes() {
        for (given, shown) in [
            ("'a'", "a"),
            ("\"it's\"", "it's"),
            ("'a", "'a"),
            ("'", "'"),
            ("''", ""),
            ("'a\"", "'a\""),
            ("['a']", "['a']"),
        ] {
            assert_eq!(without_quotes(given.to_owned()), shown, "{given}");
        }
    }

    #[test]
    fn an_empty_chart_is_none() {
        let result = ResultData::from_bundle(json!({"e2b/chart": {}}), false);
        assert_eq!(result.chart, None);
        assert!(result.extra.is_empty());
    }

    proptest! {
        #[test]
        fn any_bundle_is_taken(kinds in proptest::collection::vec("[a-z/0-9]{0,12}|text/plain|e2b/chart", 0..5),
                               values in proptest::collection::vec("\\PC{0,10}", 5)) {
            let bundle: Map<String, Value> =
                kinds.into_iter().zip(values).map(|(kind, value)| (kind, json!(value))).collect();
            let count = bundle.len();
            let result = serde_json::to_value(ResultData::from_bundle(Value::Object(bundle), true)).unwrap();
            let members = result.as_object().unwrap();
            let extra = members["extra"].as_object().unwrap().len();
            prop_assert_eq!(members.len() - 2 + extra, count);
        }
    }
}
