//! Which addresses a sandbox may talk with, and how that becomes rules for the programs. Pure.
//!
//! ```text
//!   EgressPolicy ──compile──► rules ──► LPM trie, one scope a policy version
//!   always blocked + daemon's exemptions ──compile_daemon──► rules of the scope that holds for all
//!
//!   address ─► daemon scope: block? ─► refused
//!              └─ else policy scope: longest prefix ─► allow or deny, none ─► default
//! ```
//!
//! Allowed ranges win over denied ones whatever their lengths, while a trie gives the longest
//! prefix. Two CIDRs are nested or disjoint, so it is enough to leave out denied ranges that lie
//! within an allowed one: an allowed range within a denied one is longer and wins by itself.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What happens to addresses that no range names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultAction {
    /// Packets pass.
    Allow,
    /// Packets are refused.
    #[default]
    Deny,
}

/// Where a sandbox may connect to. The default denies everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressPolicy {
    /// For addresses in neither list.
    pub default: DefaultAction,
    /// Ranges that are open; they win over `deny`. At most [`MAX_RANGES`].
    #[serde(default)]
    pub allow: Vec<Ipv4Net>,
    /// Ranges that are closed. At most [`MAX_RANGES`].
    #[serde(default)]
    pub deny: Vec<Ipv4Net>,
}

impl EgressPolicy {
    /// Nothing passes.
    #[must_use]
    pub fn deny_all() -> Self {
        Self::default()
    }

    /// Everything passes but the ranges that are blocked for all sandboxes.
    #[must_use]
    pub fn allow_all() -> Self {
        Self {
            default: DefaultAction::Allow,
            ..Self::default()
        }
    }
}

/// Most ranges in each list of a policy.
pub const MAX_RANGES: usize = 1024;

/// Ranges that no policy opens: "this" network, private and shared address space, loopback,
/// link-local (cloud metadata among it), benchmarking (where the host's services are), multicast,
/// reserved and broadcast (RFC 6890, RFC 5771).
pub const ALWAYS_BLOCKED: [Ipv4Net; 10] = [
    Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
    crate::services::RANGE,
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4),
    Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Ranges that not even the daemon's own list opens: here the guests themselves are addressed.
pub const NEVER_EXEMPT: [Ipv4Net; 3] = [
    crate::link::identity_range(),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
];

/// Why a policy is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// More ranges than a policy may have.
    #[error("the list `{list}` has {len} ranges; at most {MAX_RANGES} are allowed")]
    TooManyRanges {
        /// `allow` or `deny`.
        list: &'static str,
        /// How many it has.
        len: usize,
    },
}

/// What a rule says; the numbers are those of `enum rule` in `bpf/types.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rule {
    /// Refused by the sandbox's policy.
    Deny = 0,
    /// Open by the sandbox's policy.
    Allow = 1,
    /// Refused for every sandbox.
    Block = 2,
    /// Left to the sandbox's policy although it lies in a blocked range.
    Exempt = 3,
}

/// Rules of one scope: at most one for each range.
pub type Rules = BTreeMap<Ipv4Net, Rule>;

/// Compiles a sandbox's policy.
///
/// # Errors
/// [`PolicyError`] when a list is too long.
pub fn compile(policy: &EgressPolicy) -> Result<Rules, PolicyError> {
    for (list, ranges) in [("allow", &policy.allow), ("deny", &policy.deny)] {
        if ranges.len() > MAX_RANGES {
            return Err(PolicyError::TooManyRanges {
                list,
                len: ranges.len(),
            });
        }
    }
    Ok(winner_over_loser(
        &policy.allow,
        Rule::Allow,
        &policy.deny,
        Rule::Deny,
    ))
}

/// Compiles the rules for every sandbox: what is always blocked, less the daemon's exemptions.
#[must_use]
pub fn compile_daemon(exempt: &[Ipv4Net]) -> Rules {
    let mut rules = winner_over_loser(exempt, Rule::Exempt, &ALWAYS_BLOCKED, Rule::Block);
    // These win in turn over the exemptions.
    rules.retain(|range, _| !NEVER_EXEMPT.iter().any(|never| never.contains(range)));
    rules.extend(NEVER_EXEMPT.map(|never| (never, Rule::Block)));
    rules
}

fn winner_over_loser(winners: &[Ipv4Net], win: Rule, losers: &[Ipv4Net], lose: Rule) -> Rules {
    let winners: Vec<Ipv4Net> = winners.iter().map(Ipv4Net::trunc).collect();
    let mut rules: Rules = losers
        .iter()
        .map(Ipv4Net::trunc)
        .filter(|loser| !winners.iter().any(|winner| winner.contains(loser)))
        .map(|loser| (loser, lose))
        .collect();
    rules.extend(winners.into_iter().map(|winner| (winner, win)));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the trie does: the rule with the longest prefix that holds the address.
    fn longest(rules: &Rules, address: Ipv4Addr) -> Option<Rule> {
        rules
            .iter()
            .filter(|(range, _)| range.contains(&address))
            .max_by_key(|(range, _)| range.prefix_len())
            .map(|(_, rule)| *rule)
    }

    fn compiled_allows(policy: &EgressPolicy, exempt: &[Ipv4Net], address: Ipv4Addr) -> bool {
        if longest(&compile_daemon(exempt), address) == Some(Rule::Block) {
            return false;
        }
        match longest(&compile(policy).unwrap(), address) {
            Some(rule) => rule == Rule::Allow,
            None => policy.default == DefaultAction::Allow,
        }
    }

    /// The policy as a person would read it.
    fn naive_allows(policy: &EgressPolicy, exempt: &[Ipv4Net], address: Ipv4Addr) -> bool {
        let holds = |ranges: &[Ipv4Net]| ranges.iter().any(|range| range.contains(&address));
        if holds(&NEVER_EXEMPT) || holds(&ALWAYS_BLOCKED) && !holds(exempt) {
            return false;
        }
        if holds(&policy.allow) {
            return true;
        }
        !holds(&policy.deny) && policy.default == DefaultAction::Allow
    }

    /// Addresses and ranges crowd around few places, so that they nest and meet at their ends.
    fn any_address() -> impl Strategy<Value = Ipv4Addr> {
        prop_oneof![
            any::<u32>().prop_map(Ipv4Addr::from),
            (0..16u32, 0..8u32).prop_map(|(a, b)| Ipv4Addr::from(a << 28 | b)),
            (0..64u32).prop_map(|low| Ipv4Addr::from(0x0808_0800 | low)),
            (0..70_000u32).prop_map(|low| Ipv4Addr::from(0x0ad4_ff00 + low)),
            Just(Ipv4Addr::new(169, 254, 169, 254)),
        ]
    }

    fn any_range() -> impl Strategy<Value = Ipv4Net> {
        (any_address(), 0..=32u8).prop_map(|(address, len)| Ipv4Net::new(address, len).unwrap())
    }

    fn any_ranges(max: usize) -> impl Strategy<Value = Vec<Ipv4Net>> {
        prop::collection::vec(any_range(), 0..max)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn compiled_rules_decide_as_the_policy_reads(
            allow in any_ranges(6),
            deny in any_ranges(6),
            exempt in any_ranges(3),
            open in any::<bool>(),
            addresses in prop::collection::vec(any_address(), 1..20),
        ) {
            let default = if open { DefaultAction::Allow } else { DefaultAction::Deny };
            let policy = EgressPolicy { default, allow, deny };
            // Ends of ranges are where mistakes live.
            let ends = policy.allow.iter().chain(&policy.deny).chain(&exempt)
                .flat_map(|range| [range.network(), range.broadcast()]);
            for address in addresses.into_iter().chain(ends) {
                prop_assert_eq!(
                    compiled_allows(&policy, &exempt, address),
                    naive_allows(&policy, &exempt, address),
                    "{}", address
                );
            }
        }

        #[test]
        fn nothing_opens_the_guests_range_or_metadata(exempt in any_ranges(8)) {
            let policy = EgressPolicy::allow_all();
            for address in [[169, 254, 169, 254], [10, 213, 0, 7], [127, 0, 0, 1]] {
                prop_assert!(!compiled_allows(&policy, &exempt, address.into()));
            }
        }
    }

    #[test]
    fn allow_wins_whatever_its_length() {
        let nets = |texts: &[&str]| -> Vec<Ipv4Net> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let policy = EgressPolicy {
            default: DefaultAction::Deny,
            allow: nets(&["8.8.0.0/16", "1.1.1.1/32"]),
            deny: nets(&["8.8.8.8/32", "1.0.0.0/8"]),
        };
        insta::assert_debug_snapshot!(compile(&policy).unwrap(), @r"
        {
            1.0.0.0/8: Deny,
            1.1.1.1/32: Allow,
            8.8.0.0/16: Allow,
        }
        ");
    }

    #[test]
    fn too_many_ranges_are_refused() {
        let one: Ipv4Net = "8.8.8.8/32".parse().unwrap();
        let policy = EgressPolicy {
            deny: vec![one; MAX_RANGES + 1],
            ..EgressPolicy::default()
        };
        assert_eq!(
            compile(&policy).unwrap_err().to_string(),
            "the list `deny` has 1025 ranges; at most 1024 are allowed"
        );
    }

    #[test]
    fn wire_shape() {
        let policy = EgressPolicy {
            allow: vec!["8.8.8.8/32".parse().unwrap()],
            ..EgressPolicy::default()
        };
        insta::assert_json_snapshot!(policy, @r#"
        {
          "default": "deny",
          "allow": [
            "8.8.8.8/32"
          ],
          "deny": []
        }
        "#);
        assert!(serde_json::from_str::<EgressPolicy>(r#"{"default":"deny","alow":[]}"#).is_err());
    }
}
