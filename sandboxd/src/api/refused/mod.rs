//! What E2B's API has and this server does not (yet): every such route is known and answers 501 with a body that names
//! the feature, so that a client gets a clear error instead of a "not found" that could mean anything.
//!
//! 501 is documented for none of these routes, so the SDKs raise their general error with the message; 404 and 409
//! would be read as "does not exist" and "is already paused", and 503 would be repeated.

mod handlers;

use super::routes::{Access, Route};

macro_rules! refused {
    ($($method:ident $path:literal $feature:literal)*) => {
        &[$(Route {
            method: stringify!($method),
            path: $path,
            summary: concat!("Not supported: ", $feature),
            body: None,
            query: &[],
            access: Access::Key,
            success: &[],
            refusals: &[501],
            handler: || axum::routing::on(
                axum::routing::MethodFilter::$method,
                async || handlers::refuse($feature),
            ),
        }),*]
    };
}

/// The routes that are refused.
pub const ROUTES: &[Route] = refused! {
    POST "/v3/templates" "Building a template through the API"
    POST "/v2/templates" "Building a template through the API"
    POST "/templates" "Building a template through the API"
    POST "/templates/{templateID}" "Building a template through the API"
    PATCH "/templates/{templateID}" "Changing a template"
    PATCH "/v2/templates/{templateID}" "Changing a template"
    GET "/templates/{templateID}/files/{hash}" "Building a template through the API"
    POST "/templates/{templateID}/builds/{buildID}" "Building a template through the API"
    POST "/v2/templates/{templateID}/builds/{buildID}" "Building a template through the API"
    GET "/templates/{templateID}/builds/{buildID}/status" "Building a template through the API"
    GET "/templates/{templateID}/builds/{buildID}/logs" "Building a template through the API"
    POST "/templates/tags" "Tagging a template"
    DELETE "/templates/tags" "Tagging a template"
    GET "/templates/{templateID}/tags" "Tagging a template"
    GET "/templates/{templateID}/tags/count" "Tagging a template"
    GET "/templates/{templateID}/tags/exists" "Tagging a template"
    GET "/templates/{templateID}/tags/groups" "Tagging a template"
    GET "/templates/{templateID}/tags/{tag}/assignments" "Tagging a template"
    GET "/default-templates" "Listing default templates"
    GET "/volumes" "Volumes"
    POST "/volumes" "Volumes"
    GET "/volumes/{volumeID}" "Volumes"
    DELETE "/volumes/{volumeID}" "Volumes"
    GET "/secrets" "Secrets"
    POST "/secrets" "Secrets"
    GET "/secrets/{secretID}" "Secrets"
    POST "/secrets/{secretID}" "Secrets"
    DELETE "/secrets/{secretID}" "Secrets"
    GET "/teams" "Teams"
    GET "/teams/{teamID}/metrics" "Teams"
    GET "/teams/{teamID}/metrics/max" "Teams"
    GET "/api-keys" "Managing API keys through the API (use `sandboxd key`)"
    POST "/api-keys" "Managing API keys through the API (use `sandboxd key`)"
    PATCH "/api-keys/{apiKeyID}" "Managing API keys through the API (use `sandboxd key`)"
    DELETE "/api-keys/{apiKeyID}" "Managing API keys through the API (use `sandboxd key`)"
    POST "/access-tokens" "Access tokens"
    DELETE "/access-tokens/{accessTokenID}" "Access tokens"
    GET "/nodes" "Managing nodes"
    GET "/nodes/{nodeID}" "Managing nodes"
    POST "/nodes/{nodeID}" "Managing nodes"
    POST "/admin/teams/{teamID}/sandboxes/kill" "Administration"
    POST "/admin/teams/{teamID}/builds/cancel" "Administration"
    POST "/admin/teams/{teamID}/api-keys" "Administration"
    DELETE "/admin/teams/{teamID}/api-keys/{apiKeyID}" "Administration"
    GET "/admin/sandboxes/running-counts" "Administration"
};

#[cfg(test)]
mod tests;
