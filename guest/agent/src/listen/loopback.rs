//! The services on the guest's own loopback addresses, for programs in the guest.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::server;

/// Pause after a failed accept: the usual reason is a lack of file descriptors, which passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most connections at once to one address; more wait in the listener's backlog. A program that opens thousands must
/// not use up the descriptors with which the agent serves the host.
const MAX_CONNECTIONS: usize = 1024;

/// Binds `port` on `127.0.0.1`, and on `::1` where there is IPv6, and serves `router` there in tasks of their own.
///
/// # Errors
/// When `127.0.0.1` cannot be bound.
pub async fn start(port: u16, router: &Router) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    tokio::spawn(accept(listener, router.clone()));
    match TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)).await {
        Ok(listener) => {
            tokio::spawn(accept(listener, router.clone()));
        }
        Err(error) => tracing::debug!(%error, port, "no service on ::1"),
    }
    Ok(())
}

/// Serves every connection of `listener`. Never returns.
pub async fn accept(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // An error would mean that the semaphore is closed, which it never is.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                // A failure only costs speed.
                let _ = stream.set_nodelay(true);
                let router = router.clone();
                tokio::spawn(async move {
                    server::serve(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
