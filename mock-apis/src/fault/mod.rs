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
}
