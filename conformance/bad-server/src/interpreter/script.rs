//! The statements that the suite sends, one a line.
//!
//! ```text
//!  python  NAME = E | print(E[, file=sys.stderr]) | display(E) | time.sleep(N) | await asyncio.sleep(N)
//!          | raise NAME("…") | !echo … | plt.…(…) | plt.show() | os.kill(os.getpid(), 9) | import … | E
//!  js, ts  const NAME[: type] = E | console.log(E)        r  cat(E, E)
//!  bash    echo "…$((N + N))"                             java  System.out.println(E);
//!  E       E + E | JSON | NAME | os.environ.get("…") | os.getcwd() | random.random() | ssl.RAND_bytes(16).hex() | HTML("…") | pd.DataFrame({…}) | typeof undefined
//! ```

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::context::Context;
use crate::world::{World, lock};

/// A picture of one point: what a figure is shown as.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
/// Key of a value that is not JSON: how it is shown.
const SHOWN: &str = "__shown__";

/// What a statement came to.
pub enum Step {
    Nothing,
    Printed(String),
    Complained(String),
    Slept(f64),
    /// A result that was displayed.
    Shown(Value),
    /// A result that is the cell's own, if it is the last.
    Value(Value),
    /// The kernel has ended.
    Died,
}

/// An exception.
pub struct Raised {
    pub name: String,
    pub value: String,
}

impl Raised {
    pub fn new(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }
}

/// A figure that is being drawn.
#[derive(Default)]
pub struct Figure {
    title: String,
}

struct Scope<'a> {
    w: &'a World,
    context: &'a Context,
    envs: &'a BTreeMap<String, String>,
}

/// The text between a beginning and an end.
fn inner<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.strip_prefix(begin)?.strip_suffix(end)
}

pub fn step(
    w: &World,
    context: &Context,
    text: &str,
    envs: &BTreeMap<String, String>,
    figure: &mut Figure,
) -> Result<Step, Raised> {
    let scope = Scope { w, context, envs };
    match context.language.as_str() {
        "python" => scope.python(text, figure),
        "bash" => Ok(Step::Printed(format!("{}\n", bash(text)))),
        _ => scope.other(text),
    }
}

/// `echo`, with sums.
fn bash(text: &str) -> String {
    let said = text.strip_prefix("echo ").unwrap_or(text).trim_matches('"');
    match (said.find("$(("), said.find("))")) {
        (Some(from), Some(to)) => {
            let parts = said[from + 3..to].split('+');
            let sum: i64 = parts
                .filter_map(|part| part.trim().parse::<i64>().ok())
                .sum();
            format!("{}{sum}{}", &said[..from], &said[to + 2..])
        }
        _ => said.to_owned(),
    }
}

/// As `print` shows it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        Value::Object(members) if members.contains_key(SHOWN) => plain(&members[SHOWN]["text"]),
        other => other.to_string().replace('"', "'"),
    }
}

impl Scope<'_> {
    fn python(&self, text: &str, figure: &mut Figure) -> Result<Step, Raised> {
        if text.starts_with("import ") || text.starts_with("from ") {
            return Ok(Step::Nothing);
        }
        if let Some(printed) = inner(text, "print(", ", file=sys.stderr)") {
            return Ok(Step::Complained(format!(
                "{}\n",
                plain(&self.value(printed)?)
            )));
        }
        if let Some(printed) = inner(text, "print(", ")") {
            return Ok(Step::Printed(format!("{}\n", plain(&self.value(printed)?))));
        }
        if let Some(shown) = inner(text, "display(", ")") {
            return Ok(Step::Shown(self.shown(&self.value(shown)?)));
        }
        if let Some(seconds) = inner(text, "time.sleep(", ")") {
            return Ok(Step::Slept(seconds.parse().unwrap_or(0.0)));
        }
        if let Some(seconds) = inner(text, "await asyncio.sleep(", ")") {
            if self.w.on("no-await") {
                return Err(Raised::new("SyntaxError", "'await' outside function"));
            }
            return Ok(Step::Slept(seconds.parse().unwrap_or(0.0)));
        }
        if let Some((name, value)) = text
            .strip_prefix("raise ")
            .and_then(|raised| raised.split_once('('))
        {
            let value = plain(&self.value(value.trim_end_matches(')'))?);
            return Err(Raised::new(name, &value));
        }
        if let Some(command) = text.strip_prefix('!') {
            if self.w.on("no-shell-magic") {
                return Err(Raised::new("SyntaxError", "invalid syntax"));
            }
            return Ok(Step::Printed(format!("{}\n", bash(command))));
        }
        if text.starts_with("os.kill(os.getpid()") {
            return Ok(Step::Died);
        }
        if text == "plt.show()" {
            return Ok(Step::Shown(self.drawn(figure)));
        }
        if let Some(title) = inner(text, "plt.title(", ")") {
            figure.title = plain(&self.value(title)?);
            return Ok(Step::Nothing);
        }
        if text.starts_with("plt.") {
            return Ok(Step::Nothing);
        }
        if let Some((name, value)) = text.split_once(" = ")
            && is_name(name)
        {
            self.set(name, self.value(value)?);
            return Ok(Step::Nothing);
        }
        Ok(Step::Value(self.shown(&self.value(text)?)))
    }

    fn other(&self, text: &str) -> Result<Step, Raised> {
        let text = text.trim_end_matches(';');
        for begin in ["console.log(", "System.out.println("] {
            if let Some(printed) = inner(text, begin, ")") {
                return Ok(Step::Printed(format!("{}\n", plain(&self.value(printed)?))));
            }
        }
        if let Some(printed) = inner(text, "cat(", ")") {
            let parts: Result<Vec<String>, Raised> = printed
                .split(", ")
                .map(|part| Ok(plain(&self.value(part)?)))
                .collect();
            return Ok(Step::Printed(parts?.join(" ")));
        }
        if let Some((left, value)) = text
            .strip_prefix("const ")
            .and_then(|rest| rest.split_once(" = "))
        {
            let name = left.split(':').next().unwrap_or(left);
            self.set(name, self.value(value)?);
            return Ok(Step::Nothing);
        }
        Ok(Step::Value(self.shown(&self.value(text)?)))
    }

    fn set(&self, name: &str, value: Value) {
        lock(&self.context.variables).insert(name.to_owned(), value.clone());
        if self.w.on("contexts-share") {
            lock(&self.w.leaked_variables).insert(name.to_owned(), value);
        }
    }

    fn value(&self, text: &str) -> Result<Value, Raised> {
        let text = text.trim();
        if let Ok(value) = serde_json::from_str(text) {
            return Ok(value);
        }
        if let Some((left, right)) = text.split_once(" + ") {
            let (left, right) = (self.value(left)?, self.value(right)?);
            return Ok(match (left.as_i64(), right.as_i64()) {
                (Some(left), Some(right)) => json!(left.saturating_add(right)),
                _ => json!(format!("{}{}", plain(&left), plain(&right))),
            });
        }
        if let Some(name) = inner(text, "os.environ.get(\"", "\")") {
            return Ok(json!(self.envs.get(name)));
        }
        if text == "random.random()" {
            return Ok(json!(format!("0.{}", lock(&self.context.drawn).0)));
        }
        if text == "ssl.RAND_bytes(16).hex()" {
            return Ok(json!(lock(&self.context.drawn).1.clone()));
        }
        if text == "os.getcwd()" {
            return Ok(json!(self.context.cwd));
        }
        if text == "typeof undefined" {
            return Ok(json!("undefined"));
        }
        if let Some(html) = inner(text, "HTML(", ")") {
            let html = plain(&self.value(html)?);
            let mut shown = json!({ "text": "<IPython.core.display.HTML object>" });
            if !self.w.on("html-as-text") {
                shown["html"] = json!(html);
            }
            return Ok(json!({ SHOWN: shown }));
        }
        if let Some(columns) = inner(text, "pd.DataFrame(", ")") {
            let columns = self.value(columns)?;
            let mut shown = json!({ "text": "   a  b", "html": "<table></table>" });
            if !self.w.on("frame-without-data") {
                shown["data"] = columns;
            }
            return Ok(json!({ SHOWN: shown }));
        }
        if !is_name(text) {
            return Err(Raised::new("SyntaxError", "invalid syntax"));
        }
        let own = lock(&self.context.variables).get(text).cloned();
        let found = own.or_else(|| lock(&self.w.leaked_variables).get(text).cloned());
        found.ok_or_else(|| Raised::new("NameError", &format!("name '{text}' is not defined")))
    }

    /// A value as a result line.
    fn shown(&self, value: &Value) -> Value {
        let mut line = json!({ "type": "result", "text": plain(value), "extra": {} });
        if let Some(members) = value[SHOWN].as_object() {
            for (name, member) in members {
                line[name] = member.clone();
            }
        } else if (value.is_array() || value.is_object()) && !self.w.on("value-without-json") {
            line["json"] = value.clone();
        }
        line
    }

    fn drawn(&self, figure: &Figure) -> Value {
        let mut line =
            json!({ "type": "result", "text": "<Figure size 640x480 with 1 Axes>", "extra": {} });
        if !self.w.on("figure-without-png") {
            line["png"] = json!(PNG);
        }
        if !self.w.on("figure-without-chart") {
            line["chart"] = json!({
                "type": "line", "title": figure.title,
                "elements": [{ "label": "squares", "points": [[1, 1], [2, 4], [3, 9]] }],
            });
        }
        line
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
