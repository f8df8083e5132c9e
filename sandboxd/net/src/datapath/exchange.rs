//! The steps by which one policy takes the place of another. Pure.
//!
//! ```text
//!   insert new rules under a new scope ─► switch the slot to it ─► remove the old rules
//!
//!   a packet meanwhile:  slot ──► rules of that scope ──► slot again
//!                                                          └ another scope now: dropped
//! ```
//!
//! A packet that read the slot before the switch may look for rules after they were removed. What
//! it then finds, or rather does not find, counts for nothing, because it looks at the slot again
//! before it passes. So each packet is judged by the old policy or by the new, or dropped.

use ipnet::Ipv4Net;

use super::abi::Slot;
use crate::policy::{Rule, Rules};

/// One change of one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write a rule.
    Insert(u32, Ipv4Net, Rule),
    /// Put or replace the interface's slot.
    Switch(Slot),
    /// Remove a rule.
    Remove(u32, Ipv4Net),
}

/// The steps from what is installed, if anything, to the new slot and rules, in order.
pub fn steps<'a>(
    old: Option<&'a (u32, Rules)>,
    slot: Slot,
    rules: &'a Rules,
) -> impl Iterator<Item = Step> + 'a {
    let insert = rules
        .iter()
        .map(move |(range, rule)| Step::Insert(slot.scope, *range, *rule));
    let remove = old
        .into_iter()
        .flat_map(|(scope, rules)| rules.keys().map(|range| Step::Remove(*scope, *range)));
    insert.chain([Step::Switch(slot)]).chain(remove)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{DefaultAction, EgressPolicy, compile};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    /// The maps at one moment.
    #[derive(Clone, Default)]
    struct Maps {
        slot: Option<Slot>,
        rules: BTreeMap<(u32, Ipv4Net), Rule>,
    }

    impl Maps {
        fn apply(&mut self, step: Step) {
            match step {
                Step::Insert(scope, range, rule) => {
                    self.rules.insert((scope, range), rule);
                }
                Step::Switch(slot) => self.slot = Some(slot),
                Step::Remove(scope, range) => {
                    self.rules
                        .remove(&(scope, range))
                        .expect("removes what was there");
                }
            }
        }

        fn judge(&self, slot: Slot, address: Ipv4Addr) -> bool {
            self.rules
                .iter()
                .filter(|((scope, range), _)| *scope == slot.scope && range.contains(&address))
                .max_by_key(|((_, range), _)| range.prefix_len())
                .map_or(slot.default_rule == Rule::Allow as u32, |(_, rule)| {
                    *rule == Rule::Allow
                })
        }
    }

    fn slot(scope: u32, policy: &EgressPolicy) -> Slot {
        let default_rule = match policy.default {
            DefaultAction::Allow => Rule::Allow,
            DefaultAction::Deny => Rule::Deny,
        };
        Slot {
            scope,
            identity: 1,
            default_rule: default_rule as u32,
            flags: 0,
        }
    }

    fn any_policy() -> impl Strategy<Value = EgressPolicy> {
        let ranges = || {
            prop::collection::vec((0..4_u32, 28..=32_u8), 0..4).prop_map(|ranges| {
                ranges
                    .into_iter()
                    .map(|(low, len)| Ipv4Net::new(Ipv4Addr::from(0x0808_0800 + low), len).unwrap())
                    .collect::<Vec<_>>()
            })
        };
        (any::<bool>(), ranges(), ranges()).prop_map(|(open, allow, deny)| EgressPolicy {
            default: if open {
                DefaultAction::Allow
            } else {
                DefaultAction::Deny
            },
            allow,
            deny,
        })
    }

    proptest! {
        #[test]
        fn whenever_a_packet_looks_it_passes_only_if_one_of_the_policies_lets_it(
            before in any_policy(),
            after in any_policy(),
            low in 0..5_u32,
        ) {
            let (old_rules, new_rules) = (compile(&before).unwrap(), compile(&after).unwrap());
            let (old_slot, new_slot) = (slot(1, &before), slot(2, &after));
            let mut maps = Maps::default();
            steps(None, old_slot, &old_rules).for_each(|step| maps.apply(step));
            let installed = (1, old_rules);
            let mut moments = vec![maps.clone()];
            for step in steps(Some(&installed), new_slot, &new_rules) {
                maps.apply(step);
                moments.push(maps.clone());
            }
            let address = Ipv4Addr::from(0x0808_0800 + low);
            let old = moments[0].judge(old_slot, address);
            let new = maps.judge(new_slot, address);
            for first in 0..moments.len() {
                for second in first..moments.len() {
                    for third in second..moments.len() {
                        let seen = moments[first].slot.unwrap();
                        let passes = moments[second].judge(seen, address)
                            && moments[third].slot == Some(seen);
                        prop_assert!(!passes || old || new);
                        if first == third {
                            let expected = if seen == old_slot { old } else { new };
                            prop_assert_eq!(passes, expected);
                        }
                    }
                }
            }
            prop_assert_eq!(maps.rules.len(), new_rules.len(), "rules stayed behind");
        }
    }
}
