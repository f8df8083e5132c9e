//! One request from end to end.

use std::net::IpAddr;
use std::sync::Arc;

use agent_protocol::{ENVD_PORT, INTERPRETER_PORT};
use axum::body::Body;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::access::{judge, may_wake};
use super::body::Passing;
use super::headers::{target as path_and_query, to_client, to_guest, upgrade};
use super::reply::Reply;
use super::rest::Rest as RestOfBody;
use super::route::Target;
use super::signed;
use super::tunnel;
use super::upstream::{Pool, UpstreamError};
use crate::lifecycle::manager::Manager;
use crate::lifecycle::sandbox::{Rest, Sandbox, Serving};
use crate::lifecycle::state::Phase;
use crate::machine::DialError;
use crate::telemetry::{Outcome, Telemetry};

/// Forwards requests to sandboxes.
#[derive(Clone)]
pub struct Forwarder {
    manager: Arc<Manager>,
    pool: Arc<Pool>,
}

/// A place for one request or connection, counted while it is held.
struct Place {
    _permit: OwnedSemaphorePermit,
    telemetry: Arc<Telemetry>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.telemetry.active(-1);
    }
}

impl Forwarder {
    /// A forwarder to the sandboxes of a manager.
    pub fn new(manager: Arc<Manager>) -> Self {
        Self {
            manager,
            pool: Arc::default(),
        }
    }

    /// Answers a request for a port of a sandbox.
    pub async fn answer(
        &self,
        target: Target,
        request: Request<RestOfBody>,
        peer: IpAddr,
    ) -> Response<Body> {
        self.answer_as(target, request, peer, false).await
    }

    /// `trusted`: the request has shown already that it may wake the sandbox.
    async fn answer_as(
        &self,
        target: Target,
        request: Request<RestOfBody>,
        peer: IpAddr,
        trusted: bool,
    ) -> Response<Body> {
        let headers = request.headers().clone();
        match self.forward(target, request, peer, trusted).await {
            Ok(response) => {
                self.manager.telemetry().proxied(Outcome::Forwarded);
                response
            }
            Err(reply) => self.refuse(&reply, &headers),
        }
    }

    /// Answers a request for the files of whichever sandbox signed its URL.
    pub async fn answer_signed(
        &self,
        request: Request<RestOfBody>,
        peer: IpAddr,
    ) -> Response<Body> {
        let sandboxes = self.manager.all();
        let candidates = sandboxes.iter().filter_map(|sandbox| {
            let token = sandbox.facts.access_token.as_deref()?;
            Some((sandbox.id.clone(), token))
        });
        match signed::find(request.method(), request.uri(), candidates) {
            Ok(id) => {
                let target = Target {
                    id,
                    port: ENVD_PORT,
                };
                // Its signature was made with the sandbox's token.
                self.answer_as(target, request, peer, true).await
            }
            Err(error) => self.refuse(&error.into(), request.headers()),
        }
    }

    /// Gives one of the proxy's own answers.
    pub fn refuse(&self, reply: &Reply, request: &HeaderMap) -> Response<Body> {
        let outcome = if reply.is_unreachable() {
            Outcome::Unreachable
        } else {
            Outcome::Refused
        };
        self.manager.telemetry().proxied(outcome);
        reply.answer(request)
    }

    /// The way to a sandbox that does not serve at this moment: waits for what is under way, and wakes a paused one
    /// where that was asked for and the request may do it.
    async fn reach(
        &self,
        sandbox: &Arc<Sandbox>,
        target: &Target,
        trusted: bool,
        headers: &HeaderMap,
    ) -> Result<Serving, Reply> {
        loop {
            let phase = sandbox.lock().life.phase();
            match phase {
                Phase::RollingBack => {}
                Phase::Pausing | Phase::Paused | Phase::Resuming(_)
                    if sandbox.facts.auto_resume =>
                {
                    let token = sandbox.facts.access_token.as_deref();
                    if !trusted && !may_wake(target.port, headers, token) {
                        return Err(Reply::AccessTokenInvalid(target.clone()));
                    }
                    let filesystem = |rest: &Rest| !rest.memory;
                    if sandbox.lock().rest.as_ref().is_some_and(filesystem) {
                        return Err(Reply::NotFound(target.clone()));
                    }
                    let woken = self.manager.wake(sandbox).await;
                    woken.map_err(|error| Reply::not_woken(error, target.clone()))?;
                }
                // It may have begun to serve since it was looked at.
                Phase::Running | Phase::Capturing => {}
                _ => return Err(Reply::NotFound(target.clone())),
            }
            if !self.manager.quiet(sandbox).await {
                return Err(Reply::InTransition(target.clone()));
            }
            if let Some(serving) = sandbox.serving() {
                return Ok(serving);
            }
        }
    }

    async fn forward(
        &self,
        target: Target,
        request: Request<RestOfBody>,
        peer: IpAddr,
        trusted: bool,
    ) -> Result<Response<Body>, Reply> {
        if request.method() == Method::CONNECT {
            return Err(Reply::Connect);
        }
        let not_found = || Reply::NotFound(target.clone());
        let sandbox = self.manager.known(&target.id).ok_or_else(not_found)?;
        judge(
            target.port,
            request.uri().path(),
            request.headers(),
            sandbox.facts.traffic_token.as_deref(),
        )
        .map_err(|denied| Reply::denied(denied, target.clone()))?;
        let place = self.place(&sandbox, &target)?;
        let serving = match sandbox.serving() {
            Some(serving) => serving,
            None => {
                self.reach(&sandbox, &target, trusted, request.headers())
                    .await?
            }
        };
        if sandbox.facts.auto_checkpoint.is_some() && is_command(target.port, &request) {
            self.manager.before_command(&sandbox).await;
        }
        let cut = serving.cut.clone();
        let (request, client) = prepare(request, &sandbox, &cut, &target, peer);
        let answered = tokio::select! {
            biased;
            () = cut.cancelled() => return Err(not_found()),
            answered = self.pool.send(&serving, &target, request) => answered,
        };
        // A machine that dies takes its connections along a moment before its death is noticed.
        let mut response = answered.map_err(|error| match error {
            _ if cut.is_cancelled() => not_found(),
            UpstreamError::Dial(DialError::MachineGone) => not_found(),
            UpstreamError::Dial(DialError::PortClosed) => Reply::PortClosed(target.clone()),
            UpstreamError::Dial(error) => {
                tracing::warn!(sandbox = %target.id, port = target.port, %error, "no stream to the guest");
                Reply::Silent(target.clone())
            }
            UpstreamError::Http(error) => {
                tracing::debug!(sandbox = %target.id, port = target.port, %error, "no answer");
                Reply::NoAnswer(target.clone())
            }
        })?;
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        to_client(response.headers_mut(), switching);
        *response.version_mut() = Version::HTTP_11;
        if switching {
            let Some(client) = client else {
                return Err(Reply::NoAnswer(target));
            };
            let guest = hyper::upgrade::on(&mut response);
            tokio::spawn(tunnel::run(client, guest, cut, place));
            return Ok(response.map(|_| Body::empty()));
        }
        Ok(response.map(|body| Body::new(Passing::new(body, cut, place))))
    }

    fn place(&self, sandbox: &Sandbox, target: &Target) -> Result<Place, Reply> {
        let permit = sandbox.admit_connection().ok_or_else(|| Reply::TooMany {
            target: target.clone(),
            limit: self.manager.bounds().connections,
        })?;
        self.manager.telemetry().active(1);
        Ok(Place {
            _permit: permit,
            telemetry: self.manager.telemetry().clone(),
        })
    }
}

/// Whether a request has a command or a cell run.
fn is_command<B>(port: u16, request: &Request<B>) -> bool {
    request.method() == Method::POST
        && matches!(
            (port, request.uri().path()),
            (ENVD_PORT, "/process.Process/Start") | (INTERPRETER_PORT, "/execute")
        )
}

/// The request as the guest gets it, and the client's side of a protocol switch if it asks for one.
fn prepare(
    mut request: Request<RestOfBody>,
    sandbox: &Sandbox,
    cut: &CancellationToken,
    target: &Target,
    peer: IpAddr,
) -> (Request<Body>, Option<hyper::upgrade::OnUpgrade>) {
    let client = upgrade(request.headers()).map(|_| hyper::upgrade::on(&mut request));
    let uri = request.uri().clone();
    let mask = sandbox.facts.mask_request_host.as_deref();
    let mask = mask.filter(|_| target.port != ENVD_PORT);
    to_guest(request.headers_mut(), &uri, peer, mask, target.port);
    *request.uri_mut() = path_and_query(&uri);
    *request.version_mut() = Version::HTTP_11;
    let cut = cut.clone();
    (
        request.map(|body| Body::new(Passing::new(body, cut, ()))),
        client,
    )
}
