//! YAML into JSON values, with the line of each value.
//!
//! Anchors, aliases, tags, duplicate keys and keys that are no strings are refused: a scenario says what it says, and an alias bomb is
//! none. Depth and size are bounded.

use std::collections::BTreeMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, Span};
use serde_json::{Map, Number, Value};

/// Largest file, in bytes: 4 MiB.
pub const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 64;

/// Most bytes of all JSON pointers together: 64 MiB. Each value has one, so long keys above many values would take more than any machine has.
pub const MAX_POINTERS: usize = 64 << 20;

/// A document: its value, and the line (from 1) of each value by JSON pointer.
#[derive(Debug)]
pub struct Document {
    /// The value.
    pub value: Value,
    lines: BTreeMap<String, usize>,
}

/// Why a text is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// The parser's words.
    #[error("{0}")]
    Syntax(String),
    /// Beyond [`MAX_BYTES`].
    #[error("larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Beyond [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Beyond [`MAX_POINTERS`].
    #[error("keys are too long for how many values are below them")]
    TooLong,
    /// Anchor or alias.
    #[error("anchors and aliases are not taken: write the value out")]
    Alias,
    /// A tag such as `!!binary`.
    #[error("tags are not taken")]
    Tag,
    /// The same key twice.
    #[error("key `{0}` appears twice")]
    Duplicate(String),
    /// A list or mapping as a key.
    #[error("a key is a plain word or string")]
    Key,
    /// A number that JSON does not have.
    #[error("infinities and not-a-number are not taken")]
    Number,
    /// Nothing, or more than one document.
    #[error("one document, not none and not several")]
    Documents,
}

impl Document {
    /// Line of the value at `pointer`, or of the nearest one around it.
    pub fn line(&self, pointer: &str) -> usize {
        let mut pointer = pointer;
        loop {
            if let Some(line) = self.lines.get(pointer) {
                return *line;
            }
            match pointer.rfind('/') {
                Some(end) => pointer = &pointer[..end],
                None => return 1,
            }
        }
    }
}

/// A key as a part of a JSON pointer.
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

enum Open {
    List(Vec<Value>),
    Mapping(Map<String, Value>, Option<String>),
}

/// Parses `text`; an error comes with its line.
pub fn parse(text: &str) -> Result<Document, (usize, YamlError)> {
    if text.len() > MAX_BYTES {
        return Err((1, YamlError::TooLarge));
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            (
                error.marker().line(),
                YamlError::Syntax(error.info().to_owned()),
            )
        })?;
        builder
            .event(event, span)
            .map_err(|error| (span.start.line(), error))?;
    }
    match (builder.done, builder.documents) {
        (Some(value), 1) => Ok(Document {
            value,
            lines: builder.lines,
        }),
        _ => Err((1, YamlError::Documents)),
    }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    done: Option<Value>,
    documents: usize,
    lines: BTreeMap<String, usize>,
    pointers: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let plain = |anchor: usize, tagged: bool| match (anchor, tagged) {
            (0, false) => Ok(()),
            (0, true) => Err(YamlError::Tag),
            _ => Err(YamlError::Alias),
        };
        match event {
            Event::DocumentStart(_) => self.documents += 1,
            Event::Alias(_) => return Err(YamlError::Alias),
            Event::SequenceStart(anchor, tag) => {
                plain(anchor, tag.is_some())?;
                self.begin(Open::List(Vec::new()), span)?;
            }
            Event::MappingStart(anchor, tag) => {
                plain(anchor, tag.is_some())?;
                self.begin(Open::Mapping(Map::new(), None), span)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                plain(anchor, tag.is_some())?;
                if let Some(Open::Mapping(entries, key @ None)) = self.open.last_mut() {
                    if entries.contains_key(text.as_ref()) {
                        return Err(YamlError::Duplicate(text.into_owned()));
                    }
                    *key = Some(text.into_owned());
                    self.note(span)?;
                } else {
                    let scalar = Scalar::parse_from_cow_and_metadata(text, style, None)
                        .ok_or(YamlError::Tag)?;
                    let value = value(&scalar)?;
                    self.note(span)?;
                    self.put(value);
                }
            }
            Event::SequenceEnd => {
                if let Some(Open::List(items)) = self.open.pop() {
                    self.put(Value::Array(items));
                }
            }
            Event::MappingEnd => {
                if let Some(Open::Mapping(entries, _)) = self.open.pop() {
                    self.put(Value::Object(entries));
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, open: Open, span: Span) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(YamlError::TooDeep);
        }
        if matches!(self.open.last(), Some(Open::Mapping(_, None))) {
            return Err(YamlError::Key);
        }
        self.note(span)?;
        self.open.push(open);
        Ok(())
    }

    /// Notes the line of the value that begins; a value of a mapping keeps the line of its key.
    fn note(&mut self, span: Span) -> Result<(), YamlError> {
        let pointer = self.pointer();
        self.pointers += pointer.len();
        if self.pointers > MAX_POINTERS {
            return Err(YamlError::TooLong);
        }
        self.lines
            .entry(pointer)
            .or_insert_with(|| span.start.line());
        Ok(())
    }

    fn put(&mut self, value: Value) {
        match self.open.last_mut() {
            Some(Open::List(items)) => items.push(value),
            Some(Open::Mapping(entries, key)) => {
                if let Some(key) = key.take() {
                    entries.insert(key, value);
                }
            }
            None => self.done = Some(value),
        }
    }

    fn pointer(&self) -> String {
        self.open
            .iter()
            .fold(String::new(), |pointer, open| match open {
                Open::List(items) => format!("{pointer}/{}", items.len()),
                Open::Mapping(_, key) => {
                    format!("{pointer}/{}", escape(key.as_deref().unwrap_or("")))
                }
            })
    }
}

fn value(scalar: &Scalar<'_>) -> Result<Value, YamlError> {
    Ok(match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => Value::Bool(*value),
        Scalar::Integer(value) => Value::from(*value),
        Scalar::FloatingPoint(value) => {
            Value::Number(Number::from_f64(value.into_inner()).ok_or(YamlError::Number)?)
        }
        Scalar::String(text) => Value::String(text.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_have_their_lines() {
        let document = parse("a: 1\nb:\n  - x\n  - {c: true, d: ~}\n\"e/f\": \"1\"\n").unwrap();
        assert_eq!(
            document.value,
            serde_json::json!({"a": 1, "b": ["x", {"c": true, "d": null}], "e/f": "1"})
        );
        let lines = ["/a", "/b", "/b/0", "/b/1/c", "/e~1f", "/b/1/none/x"]
            .map(|pointer| document.line(pointer));
        assert_eq!(lines, [1, 2, 3, 4, 5, 4]);
    }

    #[test]
    fn what_is_not_taken_is_refused_with_its_line() {
        let table = [
            ("a: 1\na: 2\n", 2, YamlError::Duplicate("a".into())),
            ("a: &x 1\nb: *x\n", 1, YamlError::Alias),
            ("a: !!binary x\n", 1, YamlError::Tag),
            ("a: 1\n? [b]\n: 2\n", 2, YamlError::Key),
            ("a: .inf\n", 1, YamlError::Number),
            ("", 1, YamlError::Documents),
            ("--- 1\n--- 2\n", 1, YamlError::Documents),
            (&"[".repeat(100), 1, YamlError::TooDeep),
        ];
        for (text, line, error) in table {
            assert_eq!(parse(text).unwrap_err(), (line, error), "{text:?}");
        }
        let long = format!(
            "{{? \"{}\" : [{}1]}}",
            "k".repeat(100_000),
            "1,".repeat(1000)
        );
        assert_eq!(parse(&long).unwrap_err().1, YamlError::TooLong);
        let (line, error) = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(
            matches!(error, YamlError::Syntax(_)) && line >= 2,
            "{line} {error}"
        );
        assert_eq!(
            parse(&" ".repeat(MAX_BYTES + 1)).unwrap_err().1,
            YamlError::TooLarge
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-c0-9:&*!\\[\\]{}?,\"'|>#\\-\n ]{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn json_is_read_as_json_is(value in arbitrary()) {
            prop_assert_eq!(parse(&value.to_string()).unwrap().value, value);
        }
    }

    fn arbitrary() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z ]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
