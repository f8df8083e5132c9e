//! How a request finds its sandbox and port.

use http::Method;
use serde_json::json;

use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::AGENT;
use crate::target::Door;

use super::{launch, serve};

pub const CHECKS: &[Check] = &[
    Check::new(
        "proxy/by-name",
        &["host-routing-off"],
        "`PORT-ID.domain` leads to the port.",
        |c| Box::pin(by_name(c)),
    ),
    Check::new(
        "proxy/by-headers",
        &["header-routing-off"],
        "E2b-Sandbox-Id and E2b-Sandbox-Port lead to the port.",
        |c| Box::pin(by_headers(c)),
    ),
    Check::new(
        "proxy/name-suffix",
        &["host-suffix-refused"],
        "A suffix behind the id is ignored.",
        |c| Box::pin(suffix(c)),
    ),
    Check::new(
        "proxy/lone-header",
        &["lone-id-accepted"],
        "One routing header without the other is a 400.",
        |c| Box::pin(lone_header(c)),
    ),
    Check::new(
        "proxy/bad-port",
        &["bad-port-502"],
        "A port that is none is a 400.",
        |c| Box::pin(bad_port(c)),
    ),
    Check::new(
        "proxy/bad-id",
        &["bad-id-accepted"],
        "An id that cannot be one is a 400.",
        |c| Box::pin(bad_id(c)),
    ),
    Check::new(
        "proxy/loopback",
        &["loopback-unreachable"],
        "A server on the sandbox's loopback address is reached.",
        |c| Box::pin(loopback(c)),
    ),
    Check::new(
        "proxy/late-server",
        &["no-port-retry"],
        "A server that starts within a second is waited for.",
        |c| Box::pin(late(c)),
    ),
    Check::new(
        "proxy/untrusted-headers",
        &["headers-at-any-host"],
        "Routing headers are ignored at other host names.",
        |c| Box::pin(untrusted(c)),
    ),
];

async fn by_name(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    c.send(sandbox.by_name(&c, Method::GET, AGENT, "", "/health"))
        .await?
        .status(204)
        .map(|_| ())
}

/// The shared address; routing headers are only trusted there.
pub fn shared_door(c: &Context) -> Result<String, Stop> {
    match &c.target().door {
        Door::Shared { url, .. } => Ok(url.clone()),
        Door::Names { .. } => Err(Stop::Untestable(
            "routing headers need --sandbox-url".to_owned(),
        )),
    }
}

async fn by_headers(c: Context) -> Verdict {
    shared_door(&c)?;
    // Made here: with this fault the shared one is not reached, and that would hide the finding.
    let sandbox = c.fresh(json!({})).await?;
    c.send(sandbox.port(&c, Method::GET, AGENT, "/health"))
        .await?
        .status(204)
        .map(|_| ())
}

async fn suffix(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    c.send(sandbox.by_name(&c, Method::GET, AGENT, "-00000000", "/health"))
        .await?
        .status(204)
        .map(|_| ())
}

async fn lone_header(c: Context) -> Verdict {
    shared_door(&c)?;
    let sandbox = c.shared().await?;
    for missing in ["e2b-sandbox-port", "e2b-sandbox-id"] {
        let request = sandbox
            .port(&c, Method::GET, AGENT, "/health")
            .without(missing);
        c.send(request).await?.status(400)?;
    }
    Ok(())
}

async fn bad_port(c: Context) -> Verdict {
    shared_door(&c)?;
    let sandbox = c.shared().await?;
    for port in ["0", "65536", "http"] {
        let request = sandbox
            .port(&c, Method::GET, AGENT, "/health")
            .with("e2b-sandbox-port", port);
        let reply = c.send(request).await?;
        expect(
            reply.status.as_u16() == 400,
            format!("status 400 for port {port:?}"),
            reply.brief(),
        )?;
    }
    Ok(())
}

async fn bad_id(c: Context) -> Verdict {
    shared_door(&c)?;
    let sandbox = c.shared().await?;
    for id in ["../etc", "IABC", "a_b"] {
        let request = sandbox
            .port(&c, Method::GET, AGENT, "/health")
            .with("e2b-sandbox-id", id);
        let reply = c.send(request).await?;
        expect(
            reply.status.as_u16() == 400,
            format!("status 400 for id {id:?}"),
            reply.brief(),
        )?;
    }
    Ok(())
}

async fn loopback(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let process = launch(&c, &sandbox, 8_101, "127.0.0.1", 0.0).await?;
    let reached = || async {
        let reply = c.send(sandbox.port(&c, Method::GET, 8_101, "/")).await?;
        Ok((reply.status.as_u16() == 200).then_some(()))
    };
    let result = c
        .eventually("an answer of the server", c.limit(5.0), reached)
        .await;
    end(&c, &sandbox, process.pid).await;
    result
}

async fn late(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    // How long the interpreter takes to start is the template's affair; only what comes on top is asked of the proxy.
    let warm = serve(&c, &sandbox, 8_102, "0.0.0.0").await?;
    end(&c, &sandbox, warm.pid).await;
    let process = launch(&c, &sandbox, 8_103, "0.0.0.0", 0.3).await?;
    let reply = c.send(sandbox.port(&c, Method::GET, 8_103, "/")).await?;
    end(&c, &sandbox, process.pid).await;
    equal("status", &reply.status.as_u16(), &200)
}

async fn end(c: &Context, sandbox: &crate::sandbox::Sandbox, pid: u64) {
    let body = json!({ "process": { "pid": pid }, "signal": "SIGNAL_SIGKILL" });
    let _ = sandbox.rpc(c, "process.Process/SendSignal", &body).await;
}

async fn untrusted(c: Context) -> Verdict {
    shared_door(&c)?;
    let sandbox = c.shared().await?;
    let request = sandbox
        .agent(&c, Method::GET, "/envs")
        .host("somewhere-else.example.org");
    let reply = c.send(request).await?;
    expect(
        !reply.status.is_success(),
        "no answer of the sandbox's agent",
        reply.brief(),
    )
}
