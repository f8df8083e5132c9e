//! Schemas taken out of their document, for whoever gets no document along: the tools of the MCP face.
//!
//! ```text
//! {"$ref": "#/components/schemas/Flight"} ─► {"$ref": "#/$defs/components_schemas_Flight"}, and in $defs what stood there
//! ```

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Collects what schemas refer to.
pub struct Bundle<'a> {
    root: &'a Value,
    names: BTreeMap<String, String>,
    /// What is referred to, by name; for `$defs`.
    pub defs: Map<String, Value>,
}

impl<'a> Bundle<'a> {
    /// Of the document `root`.
    pub fn new(root: &'a Value) -> Self {
        Self {
            root,
            names: BTreeMap::new(),
            defs: Map::new(),
        }
    }

    /// The schema at `pointer`; anything is right where there is none.
    pub fn take(&mut self, pointer: &str) -> Value {
        let mut taken = self.root.pointer(pointer).cloned().unwrap_or(json!(true));
        self.rewrite(&mut taken);
        taken
    }

    fn rewrite(&mut self, schema: &mut Value) {
        match schema {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    match reference.strip_prefix("#/").map(super::template::decode) {
                        Some(pointer) => {
                            let name = self.define(&pointer);
                            members.insert("$ref".into(), json!(format!("#/$defs/{name}")));
                        }
                        // An anchor, or another document: the engine knows it, the caller is not told.
                        None => {
                            members.remove("$ref");
                        }
                    }
                }
                members.values_mut().for_each(|member| self.rewrite(member));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.rewrite(item)),
            _ => {}
        }
    }

    /// The name under which `$defs` has what stands at `/pointer`.
    fn define(&mut self, pointer: &str) -> String {
        if let Some(name) = self.names.get(pointer) {
            return name.clone();
        }
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let good = |c: char| if good(c) { c } else { '_' };
        let mut name: String = pointer.chars().map(good).collect();
        while self.names.values().any(|taken| *taken == name) {
            name.push('_');
        }
        // Noted before what it refers to is looked at, which may be itself.
        self.names.insert(pointer.to_owned(), name.clone());
        let taken = self.take(&format!("/{pointer}"));
        self.defs.insert(name.clone(), taken);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_referred_to_comes_along_and_circles_end() {
        let root = json!({
            "a": {"b": {"$ref": "#/c"}, "d": {"$ref": "#anchor"}},
            "c": {"items": {"$ref": "#/c"}, "x": {"$ref": "#/e~1f"}, "y": {"$ref": "#/e_1f"}},
            "e/f": {"type": "string"},
            "e_1f": true,
        });
        let mut bundle = Bundle::new(&root);
        let taken = bundle.take("/a");
        assert_eq!(taken, json!({"b": {"$ref": "#/$defs/c"}, "d": {}}));
        assert_eq!(
            Value::Object(bundle.defs),
            json!({
                "c": {
                    "items": {"$ref": "#/$defs/c"},
                    "x": {"$ref": "#/$defs/e_1f"},
                    "y": {"$ref": "#/$defs/e_1f_"},
                },
                "e_1f": {"type": "string"},
                "e_1f_": true,
            })
        );
    }
}
