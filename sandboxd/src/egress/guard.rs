//! The data plane that ships: crate `netguard` on a thread of its own.
//!
//! Its calls block for about a millisecond each (netlink, BPF maps, nftables) and need exclusive access, so they are
//! made one after the other where no request waits for another's.

use std::path::Path;
use std::sync::mpsc;

use agent_protocol::net::format_mac;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use netguard::{Config, DefaultAction, EgressPolicy, Ipv4Net, Netguard, NetguardError};
use tokio::sync::oneshot;

use crate::services::{Service, Services};

use super::{Egress, EgressError, Net, Policy, Tap, Verdict};

type Job = Box<dyn FnOnce(&mut Option<Netguard>) + Send>;

/// The data plane's thread.
#[derive(Debug)]
pub struct Guard {
    jobs: mpsc::Sender<Job>,
}

impl Guard {
    /// Sets the network up, or takes up what an earlier daemon left.
    pub async fn open(
        tap_prefix: &str,
        exempt: &[Net],
        services: &Services,
        sandboxes: usize,
        state_dir: &Path,
    ) -> Result<Self, EgressError> {
        let mut config = Config::new(state_dir);
        config.slots = u32::try_from(sandboxes).unwrap_or(u32::MAX);
        config.tap_prefix = tap_prefix.to_owned();
        config.services = services.iter().map(Service::address).collect();
        config.exempt = exempt.iter().map(Ipv4Net::from).collect();
        let (jobs, queue) = mpsc::channel::<Job>();
        let (answer, opened) = oneshot::channel();
        let thread = move || {
            let mut guard = match Netguard::open(config) {
                Ok(guard) => {
                    let _ = answer.send(Ok(()));
                    Some(guard)
                }
                Err(error) => {
                    let _ = answer.send(Err(error));
                    return;
                }
            };
            for job in queue {
                job(&mut guard);
            }
        };
        let name = "egress".to_owned();
        let spawned = std::thread::Builder::new().name(name).spawn(thread);
        spawned.map_err(EgressError::Thread)?;
        opened.await.map_err(|_| EgressError::Stopped)??;
        Ok(Self { jobs })
    }

    fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Netguard) -> Result<T, NetguardError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, EgressError>> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |guard| {
            if let Some(guard) = guard {
                let _ = answer.send(job(guard));
            }
        });
        let _ = self.jobs.send(job);
        async move { Ok(result.await.map_err(|_| EgressError::Stopped)??) }.boxed()
    }
}

impl Egress for Guard {
    fn acquire(&self, policy: Policy) -> BoxFuture<'_, Result<Option<Tap>, EgressError>> {
        let policy = EgressPolicy::from(&policy);
        self.run(move |guard| Ok(Some(guard.acquire(&policy)?.into())))
    }

    fn adopt(&self, slot: u32, policy: Policy) -> BoxFuture<'_, Result<Option<Tap>, EgressError>> {
        let policy = EgressPolicy::from(&policy);
        self.run(move |guard| Ok(Some(guard.adopt(slot, &policy)?.into())))
    }

    fn recovered(&self) -> BoxFuture<'_, Result<(), EgressError>> {
        self.run(|guard| guard.sweep().map(|_| ()))
    }

    fn update(&self, slot: u32, policy: Policy) -> BoxFuture<'_, Result<(), EgressError>> {
        let policy = EgressPolicy::from(&policy);
        self.run(move |guard| guard.update(slot, &policy))
    }

    fn release(&self, slot: u32) -> BoxFuture<'_, Result<(), EgressError>> {
        self.run(move |guard| guard.release(slot))
    }

    fn close(&self, keep: bool) -> BoxFuture<'_, Result<(), EgressError>> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |guard| {
            // Dropped without `close`, it leaves everything for its successor.
            let closed = match guard.take() {
                Some(guard) if !keep => guard.close(),
                _ => Ok(()),
            };
            let _ = answer.send(closed);
        });
        let _ = self.jobs.send(job);
        async move { Ok(result.await.map_err(|_| EgressError::Stopped)??) }.boxed()
    }
}

impl From<netguard::Tap> for Tap {
    fn from(tap: netguard::Tap) -> Self {
        Self {
            slot: tap.slot,
            mac: format_mac(tap.guest_mac),
            name: tap.name,
        }
    }
}

impl From<&Policy> for EgressPolicy {
    fn from(policy: &Policy) -> Self {
        Self {
            default: match policy.default {
                Verdict::Allow => DefaultAction::Allow,
                Verdict::Deny => DefaultAction::Deny,
            },
            allow: policy.allow.iter().map(Ipv4Net::from).collect(),
            deny: policy.deny.iter().map(Ipv4Net::from).collect(),
        }
    }
}

impl From<&Net> for Ipv4Net {
    fn from(net: &Net) -> Self {
        // A `Net` has a prefix of at most 32 by construction.
        Self::new_assert(net.address, net.prefix)
    }
}
