//! OpenAPI 3.1 documents: which requests are right, and what is answered.
//!
//! ```text
//! document ─► operations ─► match (404, 405) ─► authorize (401, 403) ─► check request (415, 400, 422) ─► reply: example or generated
//! ```
//!
//! Schemas are validated where they stand in the document, so `$ref` means what it means in JSON Schema 2020-12. Every success reply is
//! made and validated when the document is read: a broken example never reaches an agent.

pub mod authorize;
pub mod bundle;
pub mod document;
pub mod generate;
pub mod request;
pub mod template;

pub use document::{Contract, ContractError, Operation};
