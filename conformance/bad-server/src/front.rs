//! Where a request goes.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use crate::reply::{empty, header, with};
use crate::world::{Sandbox, World};
use crate::{agent, api, content, proxy};

pub async fn answer(State(w): State<Arc<World>>, request: Request) -> Response {
    let headers = request.headers();
    // In HTTP/2 the host is in the address.
    let host = header(headers, "host")
        .or_else(|| {
            request
                .uri()
                .authority()
                .map(|authority| authority.as_str())
        })
        .unwrap_or("")
        .to_owned();
    let named = headers.contains_key("e2b-sandbox-id") || headers.contains_key("e2b-sandbox-port");
    let named = named && (trusted(&host) || w.on("headers-at-any-host"));
    // A signed address that names no sandbox leads to the one whose token signs it.
    let hosted = proxy::looks_like_sandbox(&host);
    if !named && !hosted && request.uri().path() == "/files" && !w.on("signed-url-needs-id") {
        let signed = |one: &Arc<Sandbox>| agent::is_signed(&w, one, &request);
        if let Some(sandbox) = w.living().into_iter().find(signed) {
            return agent::answer(&w, &sandbox, request).await;
        }
    }
    if named || hosted {
        return proxy::answer(w, request, &host).await;
    }
    let cross = !w.on("no-cors");
    if request.uri().path().starts_with("/upload/")
        || request.uri().path().starts_with("/volumecontent/")
    {
        return content::answer(&w, request).await;
    }
    let response = if request.method() == http::Method::OPTIONS && cross {
        with(
            with(
                empty(204),
                "access-control-allow-methods",
                "GET, POST, PUT, PATCH, DELETE, OPTIONS",
            ),
            "access-control-allow-headers",
            "*",
        )
    } else {
        api::answer(&w, request).await
    };
    if !cross {
        return response;
    }
    with(
        with(response, "access-control-allow-origin", "*"),
        "access-control-expose-headers",
        if w.on("cors-exposes-nothing") {
            "Date"
        } else {
            "X-Next-Token, X-Total-Running, Retry-After"
        },
    )
}

/// Whether routing headers count at a host of this name.
fn trusted(host: &str) -> bool {
    let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
    bare == "localhost" || bare.starts_with("sandbox.") || bare.parse::<std::net::IpAddr>().is_ok()
}
