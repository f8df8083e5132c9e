/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs share with user space: values of the maps and the constants of the guest's link.
 * src/abi.rs mirrors this file, and a test there compares the two.
 */
#ifndef NETGUARD_TYPES_H
#define NETGUARD_TYPES_H

#include <linux/types.h>

/* What became of a packet; index into struct counters. */
enum verdict {
	VERDICT_PASSED = 0,		/* from the guest, allowed, translated */
	VERDICT_DELIVERED = 1,		/* to the guest, allowed, translated */
	VERDICT_ARP_ANSWERED = 2,	/* the guest asked for its gateway */
	VERDICT_DENIED = 3,		/* refused by the sandbox's policy */
	VERDICT_BLOCKED = 4,		/* in a range that no policy opens */
	VERDICT_RESET = 5,		/* denied or blocked TCP SYN that was answered with RST */
	VERDICT_SPOOFED_MAC = 6,	/* not from the guest's MAC to the gateway's */
	VERDICT_SPOOFED_SOURCE = 7,	/* not from the guest's address */
	VERDICT_NOT_IPV4 = 8,		/* IPv6, VLAN, other ARP, anything else */
	VERDICT_MALFORMED = 9,		/* truncated, wrong lengths, IP options */
	VERDICT_FRAGMENT = 10,		/* fragmented TCP */
	VERDICT_PROTOCOL = 11,		/* neither TCP, UDP nor ICMP echo */
	VERDICT_FOREIGN = 12,		/* to the guest, but not for it or not from an allowed peer */
	VERDICT_POLICY_CHANGED = 13,	/* the policy was replaced while it was applied */
	VERDICT_COUNT = 14,
};

/* What a rule says; value of the rules map. */
enum rule {
	RULE_DENY = 0,
	RULE_ALLOW = 1,
	RULE_BLOCK = 2,		/* only in SCOPE_DAEMON */
	RULE_EXEMPT = 3,	/* only in SCOPE_DAEMON: left to the sandbox's policy */
};

/* Scope of the rules that hold for every sandbox; policies have scopes of their own, from 1. */
#define SCOPE_DAEMON 0

/* Denials are written to the ring buffer. */
#define SLOT_EVENTS 1

/* Value of the slots map, by interface index. Replaced as a whole, never changed in place. */
struct slot {
	__u32 scope;		/* scope of its rules, unique to this version of its policy */
	__be32 identity;	/* its address on the host's side */
	__u32 default_rule;	/* RULE_DENY or RULE_ALLOW where no rule matches */
	__u32 flags;		/* SLOT_* */
};

/* Key of the rules map: the scope always matches whole, so prefix = 32 + length of the CIDR. */
struct rule_key {
	__u32 prefix;
	__u32 scope;
	__be32 address;
};

/* Value of the counters map, by interface index. */
struct counters {
	__u64 packets[VERDICT_COUNT];
	__u64 bytes_from_guest;	/* of packets that passed, Ethernet header included */
	__u64 bytes_to_guest;
};

/* Record of the events ring buffer. */
struct event {
	__u64 time_ns;		/* CLOCK_MONOTONIC */
	__u32 ifindex;
	__be32 remote;
	__be16 remote_port;	/* 0 where the protocol has none */
	__u8 protocol;
	__u8 verdict;
	__u32 reserved;
};

/* The link every guest has. */
#define GUEST_ADDRESS 0xa9fe6402u	/* 169.254.100.2 */
#define GATEWAY_ADDRESS 0xa9fe6401u	/* 169.254.100.1 */
#define GUEST_MAC { 0x06, 0x00, 0xa9, 0xfe, 0x64, 0x02 }
#define GATEWAY_MAC { 0x06, 0x00, 0xa9, 0xfe, 0x64, 0x01 }

/* Mark of frames that we send back to the guest ourselves; cleared before they leave. */
#define REFLECTED_MARK 0x5b0cced1u

#endif
