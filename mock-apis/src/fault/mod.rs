//! The catalogue of what goes wrong, one file each.
//!
//! A fault says how it is written in a scenario (its fields), what it does ([`Effect::act`]), and whether the work behind the call is done
//! all the same. Well-formed ones are sent by the HTTP stack; the others are scripts for the bare connection ([`Act::Raw`]).

mod act;

pub use act::{Act, Reply, Step};

use std::time::SystemTime;

use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// What a fault may look at.
pub struct Scene<'a> {
    /// What would be answered without the fault.
    pub normal: &'a Reply,
    /// Chance, made of the seed and this call.
    pub rng: &'a mut ChaCha8Rng,
    /// Wall clock, for dates in headers.
    pub now: SystemTime,
    /// Path of the request.
    pub path: &'a str,
    /// Whether a body keeps to the contract's schema of the normal reply; `None` without a contract.
    pub keeps_schema: &'a dyn Fn(&Value) -> Option<bool>,
}

/// What each fault says about itself.
pub trait Effect {
    /// One sentence, for the catalogue.
    const ABOUT: &'static str;
    /// Whether what the call asks for is done although it goes wrong.
    const WORKS: bool = false;
    /// Whether it acts on the whole message where a face wraps the reply in one, as MCP does.
    const MESSAGE: bool = false;
    /// What happens on the wire.
    fn act(&self, scene: &mut Scene<'_>) -> Act;
}

macro_rules! catalogue {
    ($($module:ident :: $fault:ident),* $(,)?) => {
        $(pub mod $module;)*

        /// A fault of the catalogue, with its parameters.
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        pub enum Fault {
            $(
                #[doc = concat!("See `", stringify!($module), "`.")]
                $fault($module::$fault),
            )*
        }

        impl Fault {
            /// Names and descriptions of all faults.
            pub const ALL: &[(&str, &str)] = &[$((stringify!($module), $module::$fault::ABOUT)),*];

            /// Its name in scenarios and in the journal.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$fault(_) => stringify!($module)),* }
            }

            /// Whether what the call asks for is done although it goes wrong.
            pub fn works(&self) -> bool {
                match self { $(Self::$fault(_) => $module::$fault::WORKS),* }
            }

            /// Whether it acts on the whole message where a face wraps the reply in one.
            pub fn on_message(&self) -> bool {
                match self { $(Self::$fault(_) => $module::$fault::MESSAGE),* }
            }

            /// What happens on the wire.
            pub fn act(&self, scene: &mut Scene<'_>) -> Act {
                match self { $(Self::$fault(fault) => fault.act(scene)),* }
            }
        }
    };
}

catalogue! {
    succeed::Succeed,
    bad_request::BadRequest,
    unauthorized::Unauthorized,
    forbidden::Forbidden,
    not_found::NotFound,
    conflict::Conflict,
    unprocessable::Unprocessable,
    rate_limited::RateLimited,
    server_error::ServerError,
    bad_gateway::BadGateway,
    unavailable::Unavailable,
    malformed_json::MalformedJson,
    truncated_body::TruncatedBody,
    wrong_content_type::WrongContentType,
    wrong_length::WrongLength,
    breaks_schema::BreaksSchema,
    plausible_but_wrong::PlausibleButWrong,
    empty_reply::EmptyReply,
    reset_before_headers::ResetBeforeHeaders,
    reset_after_headers::ResetAfterHeaders,
    slow_headers::SlowHeaders,
    dribbled_body::DribbledBody,
    hang::Hang,
    redirect_loop::RedirectLoop,
    oversized_body::OversizedBody,
    cut_event_stream::CutEventStream,
    did_the_work::DidTheWork,
    rpc_malformed::RpcMalformed,
    rpc_truncated::RpcTruncated,
    rpc_wrong_result::RpcWrongResult,
}

/// A fault that waits for the message that it acts on.
#[derive(Debug)]
pub struct OnMessage {
    /// The fault.
    pub fault: Fault,
    /// Its chance.
    pub rng: ChaCha8Rng,
    /// Wall clock of the call.
    pub now: SystemTime,
}

impl OnMessage {
    /// What happens instead of `message`, which answers a request for `path`.
    pub fn act(mut self, message: &Reply, path: &str) -> Act {
        self.fault.act(&mut Scene {
            normal: message,
            rng: &mut self.rng,
            now: self.now,
            path,
            keeps_schema: &|_| None,
        })
    }
}

/// The body of `reply` when it is a JSON-RPC message.
fn rpc_message(reply: &Reply) -> Option<Value> {
    reply.value().filter(|value| value["jsonrpc"] == "2.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A face that wraps replies could do nothing with a script of the reply's own bytes.
    #[test]
    fn whatever_takes_the_connection_acts_on_the_message() {
        let normal = Reply::json(200, "application/json", &serde_json::json!({"a": 1}));
        for (name, _) in Fault::ALL {
            let fault: Fault = serde_json::from_value(serde_json::json!({ *name: {} })).unwrap();
            let act = fault.act(&mut Scene {
                normal: &normal,
                rng: &mut crate::pure::seed::generator(0, &[], 0),
                now: SystemTime::UNIX_EPOCH,
                path: "/",
                keeps_schema: &|_| None,
            });
            assert!(matches!(act, Act::Reply(_)) || fault.on_message(), "{name}");
            assert!(!(fault.on_message() && fault.works()), "{name}");
        }
    }
}
