//! The daemon's side of a call to a service.
//!
//! ```text
//!   accept at the service's address ─► slot of the peer's identity ─► sandbox that serves in that slot, and was given the service?
//!        │ no: closed                                                            │ yes: one of its connections
//!        └───────────────────────────────────────────────────────────────────────┴─► connect, header, bytes both ways
//! ```
//!
//! A connection ends with its sandbox's traffic: a pause, a kill or a rollback cuts it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Weak};
use std::time::Duration;

use agent_protocol::net::slot_of_identity;
use netguard::services::PORT;
use rustix::net::sockopt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Service, is_given, proxy_header};
use crate::lifecycle::manager::Manager;
use crate::lifecycle::sandbox::{Sandbox, Serving};

/// How long a service may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Pause after an accept that failed: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After so long without a byte the guest is asked whether it is still there. Packets of a sandbox whose policy was changed
/// just stop.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// It is asked so often, this far apart, before the connection is given up.
const KEEPALIVE_PROBES: u32 = 3;
/// Pause between two of them.
const KEEPALIVE_PAUSE: Duration = Duration::from_secs(10);

/// A service whose address is listened at.
#[derive(Debug)]
pub struct Front {
    listener: TcpListener,
    service: Arc<Service>,
}

impl Front {
    /// Listens at the service's address, which this host must have by now.
    pub async fn bind(service: &Service) -> io::Result<Self> {
        let at = SocketAddrV4::new(service.address(), PORT);
        Ok(Self {
            listener: TcpListener::bind(at).await?,
            service: Arc::new(service.clone()),
        })
    }

    /// Passes calls on, for as long as there is a manager.
    pub async fn run(self, manager: Weak<Manager>) {
        loop {
            let accepted = self.listener.accept().await;
            let Some(manager) = manager.upgrade() else {
                return;
            };
            match accepted {
                Ok((guest, SocketAddr::V4(peer))) => {
                    let service = self.service.clone();
                    tokio::spawn(async move { pass(&manager, &service, guest, peer).await });
                }
                // An address of IPv4 is listened at.
                Ok((_, SocketAddr::V6(_))) => {}
                Err(error) => {
                    tracing::warn!(service = self.service.name, %error, "a call was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn pass(manager: &Manager, service: &Service, mut guest: TcpStream, peer: SocketAddrV4) {
    let Some((sandbox, serving)) = caller(manager, service, *peer.ip()) else {
        tracing::debug!(service = service.name, %peer, "a call from nobody who was given the service");
        return;
    };
    let Some(_permit) = sandbox.admit_connection() else {
        tracing::debug!(service = service.name, sandbox = %sandbox.id, "a call too many at once");
        return;
    };
    prepare(&guest);
    let both = async {
        let mut target = timeout(CONNECT, TcpStream::connect(&service.target)).await??;
        let _ = target.set_nodelay(true);
        let here = SocketAddrV4::new(service.address(), PORT);
        let header = proxy_header::encode(peer, here, sandbox.id.as_str());
        target.write_all(&header).await?;
        tokio::io::copy_bidirectional(&mut guest, &mut target).await
    };
    tokio::select! {
        done = both => if let Err(error) = done {
            tracing::debug!(service = service.name, target = service.target, sandbox = %sandbox.id, %error, "a call ended");
        },
        () = serving.cut.cancelled() => {}
    }
}

/// Sets what a guest's connection needs. What the kernel refuses costs time only: the connection then ends later.
fn prepare(guest: &TcpStream) {
    let _ = guest.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(guest, true);
    let _ = sockopt::set_tcp_keepidle(guest, KEEPALIVE);
    let _ = sockopt::set_tcp_keepintvl(guest, KEEPALIVE_PAUSE);
    let _ = sockopt::set_tcp_keepcnt(guest, KEEPALIVE_PROBES);
}

/// The sandbox of this identity, when it was given the service.
fn caller(
    manager: &Manager,
    service: &Service,
    identity: Ipv4Addr,
) -> Option<(Arc<Sandbox>, Serving)> {
    let slot = slot_of_identity(identity)?;
    let sandbox = manager.in_slot(slot)?;
    let serving = sandbox.serving()?;
    let given = is_given(&sandbox.lock().network.policy, service.address());
    given.then_some((sandbox, serving))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::egress::Tap;
    use crate::lifecycle::tests::{House, new_id, spec};

    /// A connection as a guest in `slot` would have it, and how passing it on ended.
    async fn call(
        manager: &Arc<Manager>,
        service: &Service,
        slot: u32,
    ) -> (TcpStream, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let guest = TcpStream::connect(listener.local_addr().unwrap());
        let (guest, accepted) = tokio::join!(guest, listener.accept());
        let identity = agent_protocol::net::identity_address(slot).unwrap();
        let (manager, service) = (manager.clone(), service.clone());
        let passing = tokio::spawn(async move {
            let peer = SocketAddrV4::new(identity, 40_001);
            pass(&manager, &service, accepted.unwrap().0, peer).await;
        });
        (guest.unwrap(), passing)
    }

    #[tokio::test]
    async fn a_service_is_told_which_sandbox_calls_and_hears_nothing_of_others() {
        let house = House::new();
        let manager = house.manager();
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = target.local_addr().unwrap().port();
        let service: Service = format!("a.b=127.0.0.1:{port}").parse().unwrap();
        let mut given = spec(300);
        given.network.policy.allow = vec![super::super::host(service.address())];
        let mut everything = spec(300);
        everything.network.policy.allow = vec![crate::egress::Net::ALL];
        for (slot, spec) in [(5, given), (6, everything)] {
            let created = manager.create(new_id(), spec, false).await.unwrap();
            let sandbox = manager.known(&created.view.id).unwrap();
            sandbox.lock().tap = Some(Tap {
                slot,
                name: format!("sbx{slot}"),
                mac: String::new(),
            });
        }
        let (mut guest, passing) = call(&manager, &service, 5).await;
        let (mut served, _) = target.accept().await.unwrap();
        guest.write_all(b"question").await.unwrap();
        let sandbox = manager.in_slot(5).unwrap();
        let id = sandbox.id.as_str();
        let mut heard = vec![0; 28 + 3 + id.len() + 8];
        served.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard[12..14], [0x21, 0x11]);
        assert_eq!(&heard[31..], format!("{id}question").as_bytes());
        served.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        guest.read_exact(&mut answer).await.unwrap();

        // One that was not given it, and one that is not there.
        for slot in [6, 7] {
            let (mut stranger, passing) = call(&manager, &service, slot).await;
            passing.await.unwrap();
            assert_eq!(stranger.read(&mut answer).await.unwrap(), 0);
        }

        // What was begun ends with the sandbox.
        manager.kill(&sandbox.id).await.unwrap();
        passing.await.unwrap();
        assert_eq!(guest.read(&mut answer).await.unwrap(), 0);
        assert_eq!(served.read(&mut answer).await.unwrap(), 0);
        assert!(
            timeout(Duration::from_millis(50), target.accept())
                .await
                .is_err()
        );
    }
}
