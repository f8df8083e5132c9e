//! Idempotency keys, by draft-ietf-httpapi-idempotency-key-header.
//!
//! ```text
//!              first call            reply is known
//!  (unknown) ─────────────► in flight ─────────────► done
//!                 same body: 409 Conflict    same body: the first reply again
//!                        another body, in either state: 422
//!  no key where one is required: 400
//! ```

use super::bounded::Bounded;

/// How a route treats the key.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The header means nothing.
    #[default]
    Ignored,
    /// Honoured when it is sent.
    Optional,
    /// A call without it is refused.
    Required,
}

/// The longest key that is taken, in bytes.
pub const MAX_KEY: usize = 255;

/// What a call with (or without) a key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission<R> {
    /// Do the work; when `tracked`, report its reply with [`Store::finish`].
    Work {
        /// Whether the store waits for the reply.
        tracked: bool,
    },
    /// Done before: this was the reply.
    Replay(R),
    /// 400: a key is required.
    Missing,
    /// 400: empty or longer than [`MAX_KEY`].
    Malformed,
    /// 422: the key was used with another body.
    OtherBody,
    /// 409: the first call is still under way.
    InFlight,
}

#[derive(Debug)]
struct Record<R> {
    digest: [u8; 32],
    reply: Option<R>,
}

/// The keys that were seen; the oldest are forgotten first.
#[derive(Debug)]
pub struct Store<R> {
    records: Bounded<String, Record<R>>,
}

impl<R: Clone> Store<R> {
    /// An empty store for at most `capacity` keys.
    pub fn new(capacity: usize) -> Self {
        Self {
            records: Bounded::new(capacity),
        }
    }

    /// A call in `scope` (caller and route: keys of different ones never meet) with a body of this digest.
    pub fn admit(
        &mut self,
        policy: Policy,
        scope: &str,
        key: Option<&str>,
        digest: [u8; 32],
    ) -> Admission<R> {
        let key = match (policy, key) {
            (Policy::Ignored, _) | (Policy::Optional, None) => {
                return Admission::Work { tracked: false };
            }
            (Policy::Required, None) => return Admission::Missing,
            (_, Some(key)) if key.is_empty() || key.len() > MAX_KEY => return Admission::Malformed,
            (_, Some(key)) => format!("{scope}\n{key}"),
        };
        match self.records.get(&key) {
            Some(record) if record.digest != digest => Admission::OtherBody,
            Some(Record {
                reply: Some(reply), ..
            }) => Admission::Replay(reply.clone()),
            Some(_) => Admission::InFlight,
            None => {
                self.records.entry(&key, || Record {
                    digest,
                    reply: None,
                });
                Admission::Work { tracked: true }
            }
        }
    }

    /// The work of the tracked call is done, and this is its reply. The first reply stays.
    pub fn finish(&mut self, scope: &str, key: &str, reply: R) {
        let key = format!("{scope}\n{key}");
        if self.records.get(&key).is_some() {
            let record = self.records.entry(&key, || Record {
                digest: [0; 32],
                reply: None,
            });
            record.reply.get_or_insert(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_four_refusals_and_the_replay() {
        let mut store = Store::new(8);
        let admit = |store: &mut Store<u32>, key, body| {
            store.admit(Policy::Required, "caller", key, [body; 32])
        };
        assert_eq!(admit(&mut store, None, 1), Admission::Missing);
        assert_eq!(admit(&mut store, Some(""), 1), Admission::Malformed);
        assert_eq!(
            admit(&mut store, Some("k"), 1),
            Admission::Work { tracked: true }
        );
        assert_eq!(admit(&mut store, Some("k"), 1), Admission::InFlight);
        assert_eq!(admit(&mut store, Some("k"), 2), Admission::OtherBody);
        store.finish("caller", "k", 201);
        assert_eq!(admit(&mut store, Some("k"), 1), Admission::Replay(201));
        assert_eq!(admit(&mut store, Some("k"), 2), Admission::OtherBody);
        assert_eq!(
            store.admit(Policy::Required, "other", Some("k"), [1; 32]),
            Admission::Work { tracked: true }
        );
    }

    proptest! {
        /// Against the shortest model: a key's first body is worked on once, whatever comes in between.
        #[test]
        fn a_key_is_worked_on_once(calls in prop::collection::vec((0_u8..4, 0_u8..2, any::<bool>()), 1..200)) {
            let mut store = Store::new(16);
            let mut model: HashMap<u8, (u8, Option<usize>)> = HashMap::new();
            for (n, (key, body, finishes)) in calls.into_iter().enumerate() {
                let name = key.to_string();
                let admission = store.admit(Policy::Optional, "s", Some(&name), [body; 32]);
                let expected = match model.get(&key) {
                    None => Admission::Work { tracked: true },
                    Some((first, _)) if *first != body => Admission::OtherBody,
                    Some((_, Some(reply))) => Admission::Replay(*reply),
                    Some((_, None)) => Admission::InFlight,
                };
                prop_assert_eq!(admission, expected);
                let record = model.entry(key).or_insert((body, None));
                if finishes {
                    store.finish("s", &name, n);
                    record.1.get_or_insert(n);
                }
            }
        }
    }
}
