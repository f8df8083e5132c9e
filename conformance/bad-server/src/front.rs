//! Where a request goes.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use crate::reply::{empty, header, with};
use crate::world::World;
use crate::{api, content, proxy};

pub async fn answer(State(w): State<Arc<World>>, request: Request) -> Response {
    let headers = request.headers();
    let host = header(headers, "host").unwrap_or("").to_owned();
    let named = headers.contains_key("e2b-sandbox-id") || headers.contains_key("e2b-sandbox-port");
    if named || proxy::looks_like_sandbox(&host) {
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
