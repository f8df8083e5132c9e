//! The vsock listener (vsock(7)), the agent's only door to the host.

use std::io;
use std::time::Duration;

use agent_protocol::AGENT_VSOCK_PORT;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

use super::connection::Connections;

/// Pause after a failed accept: the usual reason is a lack of file descriptors, which passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the agent's port.
///
/// # Errors
/// When the kernel has no vsock or the port is taken.
pub fn bind() -> io::Result<VsockListener> {
    VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, AGENT_VSOCK_PORT))
}

/// Serves every connection. Never returns.
pub async fn accept(listener: VsockListener, connections: Connections) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connections = connections.clone();
                tokio::spawn(async move { connections.serve(stream, peer.cid()).await });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
