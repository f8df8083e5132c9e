//! The TAP pool: what the daemon asks for a sandbox's network.
//!
//! ```text
//!   open ──► adopt each sandbox that survived ──► sweep ──► acquire / update / release ──► close
//!                                                                                   or drop ┐
//!   next open with the same state directory finds everything as it was  ◄──────────────────┘
//!
//!   a TAP is made in an order that never lets a packet by unjudged:
//!   created, not persistent ─► programs attached (no slot: all dropped) ─► alias, addresses, up
//!   ─► settings, route, neighbour ─► persistent ─► [acquire] slot with policy: packets pass
//! ```
//!
//! All calls block, for about a millisecond each; deleting a TAP can take some more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use thiserror::Error;

use crate::datapath::{Counters, Datapath, DatapathError, Event};
use crate::firewall::{self, FirewallError, Ruleset};
use crate::instance::{Instance, InstanceError};
use crate::link::{self, GATEWAY_MAC, GUEST_MAC, MTU};
use crate::netlink::{self, Request};
use crate::policy::EgressPolicy;
use crate::slots::{Released, Slots, Taken};
use crate::{services, sysctl, tap};

/// Frames that may wait for a guest.
const QUEUE_LEN: u32 = 512;
/// Longest prefix of TAP names: with five digits they stay within the kernel's 15 characters.
const MAX_PREFIX: usize = 10;

/// How the pool is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Sandboxes at a time, at most [`link::MAX_SLOTS`].
    pub slots: u32,
    /// TAPs kept ready for the next sandboxes; at rest there are exactly so many.
    pub spare_taps: u32,
    /// What TAP names begin with: 1 to 10 lower-case letters. Daemons on one host need different
    /// ones.
    pub tap_prefix: String,
    /// Whether packets leave under the uplink's address. Without it somebody else must route
    /// 10.213.0.0/16.
    pub uplink_masquerade: bool,
    /// Blocked ranges that are left to the sandboxes' policies, for services in private networks.
    pub exempt: Vec<Ipv4Net>,
    /// Addresses of this host, of [`services::RANGE`], that sandboxes' policies may open; at most [`services::MAX`].
    pub services: Vec<Ipv4Addr>,
    /// Whether refusals are written to the ring buffer, see [`Netguard::next_event`].
    pub events: bool,
    /// Where the instance file lies.
    pub state_dir: PathBuf,
}

impl Config {
    /// 256 slots, 4 spare TAPs `sbx…`, masquerade, nothing exempt, no services, no events.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            slots: 256,
            spare_taps: 4,
            tap_prefix: "sbx".to_owned(),
            uplink_masquerade: true,
            exempt: Vec::new(),
            services: Vec::new(),
            events: false,
            state_dir: state_dir.into(),
        }
    }
}

/// A sandbox's network card, seen from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Name of the interface, for the VMM to open.
    pub name: String,
    /// Slot, by which it is updated and released.
    pub slot: u32,
    /// Interface number.
    pub ifindex: u32,
    /// MAC address for the guest's card; the same for all.
    pub guest_mac: [u8; 6],
    /// Address the sandbox has on the host's side.
    pub identity: Ipv4Addr,
}

/// Why the pool refused.
#[derive(Debug, Error)]
pub enum NetguardError {
    /// A number or name in the configuration is out of bounds.
    #[error("the network configuration is refused: {0}")]
    Config(&'static str),
    /// The instance file.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Programs or maps.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// nftables.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// A setting of the kernel.
    #[error("net.ipv4.ip_forward cannot be switched on: {0}")]
    Forwarding(#[source] io::Error),
    /// A step with an interface.
    #[error("the interface {name} refused ({step}): {error}")]
    Interface {
        /// Which interface.
        name: String,
        /// What was tried.
        step: &'static str,
        /// What happened.
        #[source]
        error: io::Error,
    },
    /// Every slot is taken.
    #[error("all {0} network slots are taken")]
    Exhausted(u32),
    /// The slot is not taken, or has no TAP to adopt.
    #[error("slot {0} has no sandbox")]
    NoSuchSlot(u32),
}

/// The pool.
pub struct Netguard {
    config: Config,
    instance: Instance,
    datapath: Datapath,
    slots: Slots,
    /// Interface numbers of taken slots.
    indexes: BTreeMap<u32, u32>,
    /// Held, so that the services' addresses are there.
    _services: Option<services::Interface>,
}

impl Netguard {
    /// Takes up what a predecessor with the same state directory left, or begins anew: loads the
    /// programs, installs the nftables table, lets the host forward, makes the spare TAPs.
    ///
    /// # Errors
    /// [`NetguardError`]; what was begun stays for the next try.
    pub fn open(config: Config) -> Result<Self, NetguardError> {
        check(&config)?;
        let mut exempt = config.exempt.clone();
        exempt.extend(config.services.iter().copied().map(Ipv4Net::from));
        let datapath = Datapath::load(&exempt)?;
        let instance = Instance::open(&config.state_dir, &config.tap_prefix, sysctl::forwards)?;
        let (orphaned, foreign) = found(&config, &instance)?;
        firewall::install(&Ruleset {
            table: &instance.table(),
            tap_prefix: &config.tap_prefix,
            masquerade: config.uplink_masquerade,
            services: &config.services,
        })?;
        let services = (!config.services.is_empty())
            .then(|| {
                let (name, alias) = (instance.services_interface(), instance.alias());
                services::Interface::open(&name, &alias, &config.services)
                    .map_err(|(step, error)| failed(&name, step, error))
            })
            .transpose()?;
        sysctl::set_forwarding(true).map_err(NetguardError::Forwarding)?;
        let spare = usize::try_from(config.spare_taps).unwrap_or(usize::MAX);
        let slots = Slots::new(config.slots, spare, orphaned, &foreign);
        let mut guard = Self {
            config,
            instance,
            datapath,
            slots,
            indexes: BTreeMap::new(),
            _services: services,
        };
        guard.fill_spares()?;
        Ok(guard)
    }

    /// Gives a sandbox a TAP with this policy.
    ///
    /// # Errors
    /// [`NetguardError::Exhausted`], a policy that does not compile, or the kernel's refusal.
    pub fn acquire(&mut self, policy: &EgressPolicy) -> Result<Tap, NetguardError> {
        let taken = self
            .slots
            .take()
            .ok_or(NetguardError::Exhausted(self.config.slots))?;
        let (Taken::Warm(slot) | Taken::Cold(slot)) = taken;
        let made = match taken {
            // Somebody may have deleted a spare meanwhile.
            Taken::Warm(_) => self.index(slot).or_else(|_| self.make(slot)),
            Taken::Cold(_) => self.make(slot),
        };
        let result = made.and_then(|index| self.put(slot, index, policy));
        if result.is_err() {
            self.abandon(slot);
        }
        result
    }

    /// Replaces a sandbox's policy; each packet is judged by the old or the new.
    ///
    /// # Errors
    /// [`NetguardError::NoSuchSlot`], a policy that does not compile, or the kernel's refusal. The
    /// old policy then stays.
    pub fn update(&mut self, slot: u32, policy: &EgressPolicy) -> Result<(), NetguardError> {
        let index = self.taken_index(slot)?;
        self.put(slot, index, policy).map(drop)
    }

    /// Takes a sandbox's network away: from now on nothing passes. Its machine must have ended or
    /// will find its card dead. Releasing twice is an error that changes nothing.
    ///
    /// # Errors
    /// [`NetguardError::NoSuchSlot`] or the kernel's refusal.
    pub fn release(&mut self, slot: u32) -> Result<(), NetguardError> {
        let index = self.taken_index(slot)?;
        self.datapath.tables.clear(index)?;
        self.forget_flows(slot);
        self.indexes.remove(&slot);
        match self.slots.release(slot) {
            Some(Released::Delete) => self.delete(slot),
            Some(Released::Keep) | None => Ok(()),
        }
    }

    /// Takes over the TAP of a sandbox that survived a restart of the daemon. Its old programs and
    /// policy hold until the new ones are in place.
    ///
    /// # Errors
    /// [`NetguardError::NoSuchSlot`] when no TAP of this instance has that slot. Any other error
    /// means that the TAP was deleted: a sandbox that cannot be guarded has no network.
    pub fn adopt(&mut self, slot: u32, policy: &EgressPolicy) -> Result<Tap, NetguardError> {
        if !self.slots.adopt(slot) {
            return Err(NetguardError::NoSuchSlot(slot));
        }
        // Policy first: the programs must not run a moment without it.
        let adopted = self
            .index(slot)
            .and_then(|index| self.put(slot, index, policy))
            .and_then(|tap| self.equip(&tap.name, slot, tap.ifindex).map(|()| tap));
        if adopted.is_err() {
            self.abandon(slot);
        }
        adopted
    }

    /// Removes the TAPs a predecessor left that were not adopted; returns how many.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn sweep(&mut self) -> Result<usize, NetguardError> {
        let swept = self.slots.sweep();
        for slot in &swept {
            self.delete(*slot)?;
            self.forget_flows(*slot);
        }
        self.fill_spares()?;
        Ok(swept.len())
    }

    /// A sandbox's counters since it got its TAP, or since the daemon restarted.
    ///
    /// # Errors
    /// [`NetguardError::NoSuchSlot`] or the kernel's refusal.
    pub fn counters(&self, slot: u32) -> Result<Counters, NetguardError> {
        let index = self.taken_index(slot)?;
        Ok(self.datapath.tables.counters(index)?)
    }

    /// Takes the oldest refusal out of the ring buffer, when [`Config::events`] is on.
    pub fn next_event(&mut self) -> Option<Event> {
        self.datapath.next_event()
    }

    /// Removes everything: TAPs, table, settings, instance file. Sandboxes that still run lose
    /// their network.
    ///
    /// # Errors
    /// The first refusal of the kernel; what comes after it is tried all the same.
    pub fn close(self) -> Result<(), NetguardError> {
        let mut first = Ok(());
        let mut note = |outcome: Result<(), NetguardError>| {
            if let Err(error) = outcome {
                tracing::warn!(%error, "the network is not removed whole");
                if first.is_ok() {
                    first = Err(error);
                }
            }
        };
        match found(&self.config, &self.instance) {
            Ok((ours, _)) => ours.iter().for_each(|slot| note(self.delete(*slot))),
            Err(error) => note(Err(error)),
        }
        if !self.instance.forwarding_was_on() {
            note(sysctl::set_forwarding(false).map_err(NetguardError::Forwarding));
        }
        note(firewall::remove(&self.instance.table()).map_err(Into::into));
        note(self.instance.end().map_err(Into::into));
        first
    }

    fn name(&self, slot: u32) -> String {
        format!("{}{slot}", self.config.tap_prefix)
    }

    fn index(&self, slot: u32) -> Result<u32, NetguardError> {
        let name = self.name(slot);
        netlink::index_of(&name).map_err(|error| failed(&name, "looking it up", error))
    }

    fn taken_index(&self, slot: u32) -> Result<u32, NetguardError> {
        let index = self.indexes.get(&slot).copied();
        index.ok_or(NetguardError::NoSuchSlot(slot))
    }

    fn put(
        &mut self,
        slot: u32,
        ifindex: u32,
        policy: &EgressPolicy,
    ) -> Result<Tap, NetguardError> {
        let identity = link::identity(slot).ok_or(NetguardError::NoSuchSlot(slot))?;
        self.datapath
            .tables
            .set(ifindex, identity, policy, self.config.events)?;
        self.indexes.insert(slot, ifindex);
        Ok(Tap {
            name: self.name(slot),
            slot,
            ifindex,
            guest_mac: GUEST_MAC,
            identity,
        })
    }

    /// Makes a slot's TAP; see the order in the module's header.
    fn make(&mut self, slot: u32) -> Result<u32, NetguardError> {
        let name = self.name(slot);
        let fresh = tap::create(&name).map_err(|error| failed(&name, "creating it", error))?;
        let index = self.index(slot)?;
        // An interface number may have been used before.
        self.datapath.tables.clear(index)?;
        self.equip(&name, slot, index)?;
        fresh
            .keep()
            .map_err(|error| failed(&name, "making it persistent", error))?;
        Ok(index)
    }

    fn equip(&mut self, name: &str, slot: u32, ifindex: u32) -> Result<(), NetguardError> {
        let address = link::identity(slot).ok_or(NetguardError::NoSuchSlot(slot))?;
        self.datapath.attach(name)?;
        let index = ifindex.cast_signed();
        let alias = self.instance.alias();
        let set_up = Request::SetUp {
            index,
            mac: GATEWAY_MAC,
            mtu: MTU,
            queue_len: QUEUE_LEN,
            alias: &alias,
        };
        sysctl::harden(name).map_err(|error| failed(name, "setting its sysctls", error))?;
        for (step, request) in [
            ("setting it up", set_up),
            ("routing its identity", Request::Route { address, index }),
            (
                "naming its neighbour",
                Request::Neighbour {
                    address,
                    index,
                    mac: GUEST_MAC,
                },
            ),
        ] {
            netlink::call(&request).map_err(|error| failed(name, step, error))?;
        }
        Ok(())
    }

    fn fill_spares(&mut self) -> Result<(), NetguardError> {
        while let Some(slot) = self.slots.wants_spare() {
            self.make(slot)?;
            self.slots.add_spare(slot);
        }
        Ok(())
    }

    /// Lets go of a slot that could not be set up: whatever state its TAP is in, the next to take
    /// it begins anew.
    fn abandon(&mut self, slot: u32) {
        let cleared = match self.indexes.remove(&slot) {
            Some(index) => self.datapath.tables.clear(index).map_err(Into::into),
            None => Ok(()),
        };
        if let Err(error) = cleared.and(self.delete(slot)) {
            tracing::warn!(slot, %error, "a TAP that could not be given out stays");
        }
        self.slots.forget(slot);
    }

    /// Deletes a slot's TAP, which need not exist.
    fn delete(&self, slot: u32) -> Result<(), NetguardError> {
        let name = self.name(slot);
        let deleted = netlink::index_of(&name).and_then(|index| {
            netlink::call(&Request::DeleteLink {
                index: index.cast_signed(),
            })
        });
        match deleted {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            outcome => outcome.map_err(|error| failed(&name, "deleting it", error)),
        }
    }

    /// Replies to the last sandbox must not reach the next one with the same address.
    fn forget_flows(&self, slot: u32) {
        let Some(source) = link::identity(slot) else {
            return;
        };
        match netlink::call(&Request::ForgetFlows { source }) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                tracing::warn!(slot, %error, "tracked connections of a released sandbox stay until they time out");
            }
            _ => {}
        }
    }
}

fn failed(name: &str, step: &'static str, error: impl Into<io::Error>) -> NetguardError {
    NetguardError::Interface {
        name: name.to_owned(),
        step,
        error: error.into(),
    }
}

fn check(config: &Config) -> Result<(), NetguardError> {
    if !(1..=link::MAX_SLOTS).contains(&config.slots) {
        return Err(NetguardError::Config("slots must be 1 to 65533"));
    }
    let prefix = &config.tap_prefix;
    if !(1..=MAX_PREFIX).contains(&prefix.len()) || !prefix.bytes().all(|b| b.is_ascii_lowercase())
    {
        return Err(NetguardError::Config(
            "tap_prefix must be 1 to 10 lower-case letters",
        ));
    }
    let outside = |address: &Ipv4Addr| !services::RANGE.contains(address);
    if config.services.len() > services::MAX || config.services.iter().any(outside) {
        return Err(NetguardError::Config(
            "services must be at most 256 addresses of 198.18.0.0/15",
        ));
    }
    Ok(())
}

/// Slots whose names are in use: by TAPs of this instance, and by others.
fn found(
    config: &Config,
    instance: &Instance,
) -> Result<(BTreeSet<u32>, BTreeSet<u32>), NetguardError> {
    let links =
        netlink::links().map_err(|error| failed(&config.tap_prefix, "listing them", error))?;
    let alias = instance.alias();
    let (mut ours, mut foreign) = (BTreeSet::new(), BTreeSet::new());
    for link in links {
        if let Some(slot) = slot_of(&link.name, &config.tap_prefix) {
            if link.alias == alias {
                ours.insert(slot);
            } else {
                tracing::warn!(
                    name = link.name,
                    "an interface that is not ours has a TAP's name"
                );
                foreign.insert(slot);
            }
        }
    }
    Ok((ours, foreign))
}

/// The slot in a TAP's name, written as this crate writes it.
fn slot_of(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    let slot: u32 = digits.parse().ok()?;
    (slot.to_string() == digits && slot < link::MAX_SLOTS).then_some(slot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_configuration_is_checked_before_anything_is_touched() {
        let good = Config::new("/nowhere");
        assert!(check(&good).is_ok());
        for bad in [
            Config {
                slots: 0,
                ..good.clone()
            },
            Config {
                slots: link::MAX_SLOTS + 1,
                ..good.clone()
            },
            Config {
                tap_prefix: String::new(),
                ..good.clone()
            },
            Config {
                tap_prefix: "sbx\" drop".into(),
                ..good.clone()
            },
            Config {
                tap_prefix: "elevenchars".into(),
                ..good.clone()
            },
            Config {
                services: vec![Ipv4Addr::new(10, 213, 0, 7)],
                ..good.clone()
            },
            Config {
                services: vec![Ipv4Addr::new(198, 18, 0, 7); services::MAX + 1],
                ..good
            },
        ] {
            assert!(
                matches!(check(&bad), Err(NetguardError::Config(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!(slot_of("sbx0", "sbx"), Some(0));
        assert_eq!(slot_of("sbx17", "sbx"), Some(17));
        for other in [
            "sbx", "sbx01", "sbx-1", "sbx+1", "sbx65533", "tap0", "sbx1x",
        ] {
            assert_eq!(slot_of(other, "sbx"), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_taken(name in any::<String>()) {
            let _ = slot_of(&name, "sbx");
        }
    }
}
