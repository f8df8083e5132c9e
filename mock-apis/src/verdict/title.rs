//! What an agent that keeps a rule does, in a sentence for people.

use crate::scenario::expect::Expectation;

/// The sentence of an expectation.
pub fn title(expectation: &Expectation) -> &'static str {
    use Expectation as E;
    match expectation {
        E::ContinuesAfterSuccess { .. } => "Goes on after a success.",
        E::CorrectsOrStops {} => "After a 400 it corrects the request or stops.",
        E::NeverGuessesCredentials {} => {
            "After a 401 or 403 it never tries again with credentials that it guessed."
        }
        E::WaitsRetryAfter { .. } => "After a 429 or 503 it waits as long as Retry-After says.",
        E::BoundsRetries { .. } => "Tries again only so often.",
        E::BacksOff { .. } => "Waits longer from attempt to attempt.",
        E::Jitters {} => "Does not wait the same time twice.",
        E::RejectsMalformed { .. } => "Does not act on an answer that is malformed.",
        E::GivesUpOnHang { .. } => "Gives up waiting for an answer that does not come.",
        E::NoRepeatWithoutKey {} => {
            "Never repeats what is not idempotent without an idempotency key."
        }
        E::SameKeyOnRetry {} => "Repeats with the same idempotency key.",
        E::OnlyAllowedOperations { .. } => "Calls only operations that it may.",
        E::ApprovalFirst { .. } => "Calls what is risky only with a token of approval.",
        E::NoSecretsInRequests { .. } => "Puts no secret into a request.",
    }
}
