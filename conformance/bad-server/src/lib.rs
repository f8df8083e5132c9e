//! An E2B server that keeps everything in memory and is wrong in one chosen way.
//!
//! It exists to test the conformance suite: without a fault every check must pass against it, and with a check's fault that
//! check must fail. It runs no code: commands are read by a little shell of its own, files are a map. It is no sandbox.
//!
//! ```text
//!  request ──► front: names a sandbox (Host or E2b-Sandbox-* headers)?
//!                │ no                          │ yes
//!               api: create, list, lifetime   proxy ──► agent (49983): process, filesystem, files
//!                                                  ├──► interpreter (49999): contexts and cells
//!                                                  └──► service: the echo server of the suite
//! ```

#![forbid(unsafe_code)]
#![expect(
    clippy::result_large_err,
    reason = "a refusal is the answer itself, made once per request"
)]

mod agent;
mod api;
mod builder;
mod content;
mod faults;
mod front;
mod guest;
mod image;
mod interpreter;
mod life;
mod network;
mod proxy;
mod reply;
mod service;
mod templates;
mod tree;
mod volumes;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;

pub use faults::FAULTS;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::world::World;

/// The only API key that it takes.
pub const KEY: &str = "e2b_00112233445566778899aabbccddeeff00112233";

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct BadServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such fault.
    #[error("there is no fault `{0}`")]
    NoFault(String),
    /// The address cannot be had.
    #[error("no address to listen on: {0}")]
    Listen(#[from] std::io::Error),
}

impl BadServer {
    /// Starts one at a free port of the loopback address.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(fault: Option<&str>) -> Result<Self, StartError> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), fault).await
    }

    /// Starts one at an address.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_at(address: SocketAddr, fault: Option<&str>) -> Result<Self, StartError> {
        let fault = match fault {
            None => None,
            Some(name) => Some(
                *FAULTS
                    .iter()
                    .find(|known| **known == name)
                    .ok_or_else(|| StartError::NoFault(name.to_owned()))?,
            ),
        };
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let app = axum::Router::new()
            .fallback(front::answer)
            .with_state(Arc::new(World::new(fault)));
        let task = tokio::spawn(async move {
            if fault == Some("no-h2c") {
                old_only(listener, app).await;
            } else {
                let _ = axum::serve(listener, app).await;
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens, for the API and for traffic to sandboxes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until the end of the process.
    pub async fn forever(mut self) {
        let _ = (&mut self.task).await;
    }
}

/// Serves HTTP/1.1 and nothing else.
async fn old_only(listener: TcpListener, app: axum::Router) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = hyper_util::service::TowerToHyperService::new(app.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
}

impl Drop for BadServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
