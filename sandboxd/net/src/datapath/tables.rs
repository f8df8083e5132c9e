//! The maps: who sits behind each interface, and what each may reach.
//!
//! ```text
//!   set:   the steps of `exchange`
//!   clear: slot removed ─► rules removed
//! ```
//!
//! One trie holds all rules, keyed by scope and address: the scope is matched whole, the address by
//! prefix. A map of maps, one trie a sandbox, would cost a map and its minimum of memory each and a
//! second lookup a packet, and its only gain, the atomic exchange, a fresh scope a version gives too.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap as BpfHashMap, LpmTrie, Map, MapData, MapError};
use ipnet::Ipv4Net;

use super::abi::{self, RawCounters, RuleKey, SCOPE_DAEMON, SLOT_EVENTS, Slot};
use super::exchange::{self, Step};
use super::{Counters, DatapathError};
use crate::policy::{self, DefaultAction, EgressPolicy, Rule, Rules};

/// The maps that this side writes.
pub struct Tables {
    pub(super) slots: BpfHashMap<MapData, u32, Slot>,
    pub(super) rules: LpmTrie<MapData, RuleKey, u32>,
    pub(super) counters: BpfHashMap<MapData, u32, RawCounters>,
    /// Rules of each interface's policy and the scope they are under.
    installed: HashMap<u32, (u32, Rules)>,
    next_scope: u32,
}

impl Tables {
    /// Takes the maps of a loaded object and writes the rules that hold for every sandbox.
    pub fn take(ebpf: &mut Ebpf, exempt: &[Ipv4Net]) -> Result<Self, DatapathError> {
        let mut tables = Self {
            slots: BpfHashMap::try_from(take(ebpf, "slots")?)?,
            rules: LpmTrie::try_from(take(ebpf, "rules")?)?,
            counters: BpfHashMap::try_from(take(ebpf, "counters")?)?,
            installed: HashMap::new(),
            next_scope: SCOPE_DAEMON + 1,
        };
        for (range, rule) in policy::compile_daemon(exempt) {
            tables
                .rules
                .insert(&rule_key(SCOPE_DAEMON, range), rule as u32, 0)?;
        }
        Ok(tables)
    }

    /// Gives an interface its identity and policy, or replaces them; packets see the old or the
    /// new whole.
    ///
    /// # Errors
    /// A policy that does not compile, or a map that is full. The old policy then stays.
    pub fn set(
        &mut self,
        ifindex: u32,
        identity: Ipv4Addr,
        policy: &EgressPolicy,
        events: bool,
    ) -> Result<(), DatapathError> {
        let compiled = policy::compile(policy)?;
        let scope = self.next_scope;
        self.next_scope = scope.checked_add(1).ok_or(DatapathError::ScopesExhausted)?;
        let slot = Slot {
            scope,
            identity: abi::wire(identity),
            default_rule: match policy.default {
                DefaultAction::Allow => Rule::Allow as u32,
                DefaultAction::Deny => Rule::Deny as u32,
            },
            flags: if events { SLOT_EVENTS } else { 0 },
        };
        self.ensure_counters(ifindex)?;
        let old = self.installed.remove(&ifindex);
        let outcome = exchange::steps(old.as_ref(), slot, &compiled)
            .try_for_each(|step| self.apply(ifindex, step));
        if let Err(error) = outcome {
            self.remove_rules(scope, &compiled);
            self.installed.extend(old.map(|old| (ifindex, old)));
            return Err(error);
        }
        self.installed.insert(ifindex, (scope, compiled));
        Ok(())
    }

    fn apply(&mut self, ifindex: u32, step: Step) -> Result<(), DatapathError> {
        match step {
            Step::Insert(scope, range, rule) => {
                self.rules.insert(&rule_key(scope, range), rule as u32, 0)?;
            }
            Step::Switch(slot) => self.slots.insert(ifindex, slot, 0)?,
            Step::Remove(scope, range) => self.remove_rule(scope, range),
        }
        Ok(())
    }

    /// Takes identity and policy from an interface: from now on it passes nothing.
    ///
    /// # Errors
    /// When the kernel refuses to change a map.
    pub fn clear(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        absent_is_fine(self.slots.remove(&ifindex))?;
        absent_is_fine(self.counters.remove(&ifindex))?;
        if let Some((scope, rules)) = self.installed.remove(&ifindex) {
            self.remove_rules(scope, &rules);
        }
        Ok(())
    }

    /// Counters of an interface; zeros when it has no slot.
    ///
    /// # Errors
    /// When the kernel refuses to read the map.
    pub fn counters(&self, ifindex: u32) -> Result<Counters, DatapathError> {
        match self.counters.get(&ifindex, 0) {
            Ok(raw) => Ok(Counters(raw)),
            Err(MapError::KeyNotFound) => Ok(Counters::default()),
            Err(error) => Err(error.into()),
        }
    }

    fn ensure_counters(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        if !self.installed.contains_key(&ifindex) {
            self.counters.insert(ifindex, RawCounters::default(), 0)?;
        }
        Ok(())
    }

    /// Removes rules that no slot refers to any more; one that is not there is no loss.
    fn remove_rules(&mut self, scope: u32, rules: &Rules) {
        for range in rules.keys() {
            self.remove_rule(scope, *range);
        }
    }

    fn remove_rule(&mut self, scope: u32, range: Ipv4Net) {
        if let Err(error) = absent_is_fine(self.rules.remove(&rule_key(scope, range))) {
            tracing::warn!(%range, scope, %error, "a rule that is no longer used stays");
        }
    }
}

fn rule_key(scope: u32, range: Ipv4Net) -> Key<RuleKey> {
    let address = abi::wire(range.network());
    Key::new(
        32 + u32::from(range.prefix_len()),
        RuleKey { scope, address },
    )
}

/// Takes a map out of the object.
pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, DatapathError> {
    ebpf.take_map(name).ok_or(DatapathError::Missing(name))
}

fn absent_is_fine(outcome: Result<(), MapError>) -> Result<(), MapError> {
    match outcome {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        other => other,
    }
}
