//! Scenario files: services, routes, rules, expectations, in YAML.
//!
//! ```text
//! text ─► yaml (values, and the line of each) ─► model (types that know every field) ─► check (what types cannot say) ─► Scenario
//! ```
//!
//! Every refusal has a line. The JSON Schema for editors, `schema/scenario.schema.json`, is generated from the model.

pub mod check;
pub mod expect;
pub mod load;
pub mod model;
pub mod yaml;

pub use load::{LoadError, Problem, from_path, from_text};
pub use model::Scenario;
