//! Members with one allowed value: the version of the schema, and the kind that goes with a body.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Body;

/// The version that is written, and the only one that is read.
pub const VERSION: u64 = 1;

/// Version of the schema; always [`VERSION`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(VERSION)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            VERSION => Ok(Self),
            other => Err(D::Error::custom(format_args!(
                "this is a report of schema {other}; this program reads schema {VERSION}"
            ))),
        }
    }
}

impl JsonSchema for Version {
    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": VERSION, "description": "Version of the schema." })
    }
}

/// The kind of a report, which is its body's.
pub struct Tag<B>(PhantomData<fn() -> B>);

impl<B> Default for Tag<B> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<B> Clone for Tag<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Tag<B> {}

impl<B> PartialEq for Tag<B> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<B> fmt::Debug for Tag<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag")
    }
}

impl<B: Body> Serialize for Tag<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(B::KIND)
    }
}

impl<'de, B: Body> Deserialize<'de> for Tag<B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kind = String::deserialize(deserializer)?;
        if kind == B::KIND {
            Ok(Self::default())
        } else {
            Err(D::Error::custom(format_args!(
                "this is a report of kind {kind:?}, not of {:?}",
                B::KIND
            )))
        }
    }
}

impl<B: Body> JsonSchema for Tag<B> {
    fn schema_name() -> Cow<'static, str> {
        format!("kind {}", B::KIND).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": B::KIND, "description": "What it is of." })
    }
}
