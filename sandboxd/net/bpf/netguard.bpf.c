// SPDX-License-Identifier: Apache-2.0
/*
 * Traffic control programs on each sandbox's TAP.
 *
 *   guest 169.254.100.2 ──► TAP ingress: from_guest ──► host routing ──► masquerade ──► uplink
 *                                │ frame, addresses, policy
 *                                │ source := identity          denied SYN: RST back to the guest
 *   guest 169.254.100.2 ◄── TAP egress:  to_guest   ◄── host routing ◄───────────────── uplink
 *                                  identity, peer allowed; destination := guest
 *
 * The interface says which sandbox a packet belongs to; nothing the guest writes does. An interface
 * without a slot passes nothing at all.
 *
 * Order matters once: rules of a new policy are written under a new scope, then the slot is
 * switched to it, then the old rules go. A packet that was judged while that happened may have
 * missed rules, so the slot is looked up again before it passes; if its scope is another now, the
 * packet is dropped.
 */
#include "types.h"
#include "packet.h"

#define TC_OK 0
#define TC_DROP 2

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__type(key, struct rule_key);
	__type(value, __u32);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
} events SEC(".maps");

/*
 * What is known of the packet at hand. Fields of the context are read once, at the entry: the
 * verifier wants a constant offset from it at each access, which optimized code loses otherwise.
 */
struct packet {
	__u32 ifindex;
	__u32 len;
	struct slot slot;
	struct ipv4 ip;
	__be32 remote;
	__be16 remote_port;
};

static __always_inline int count(const struct packet *p, enum verdict verdict)
{
	__u32 ifindex = p->ifindex;
	struct counters *c = bpf_map_lookup_elem(&counters, &ifindex);

	if (c && verdict < VERDICT_COUNT)
		__sync_fetch_and_add(&c->packets[verdict], 1);
	return TC_DROP;
}

static __always_inline void pass_count(const struct packet *p, enum verdict verdict)
{
	__u32 ifindex = p->ifindex;
	struct counters *c = bpf_map_lookup_elem(&counters, &ifindex);

	if (!c)
		return;
	__sync_fetch_and_add(&c->packets[verdict], 1);
	if (verdict == VERDICT_PASSED)
		__sync_fetch_and_add(&c->bytes_from_guest, p->len);
	else
		__sync_fetch_and_add(&c->bytes_to_guest, p->len);
}

static __always_inline void report(const struct packet *p, enum verdict verdict)
{
	struct event *e;

	if (!(p->slot.flags & SLOT_EVENTS))
		return;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return;		/* full: the counters still tell */
	e->time_ns = bpf_ktime_get_ns();
	e->ifindex = p->ifindex;
	e->remote = p->remote;
	e->remote_port = p->remote_port;
	e->protocol = p->ip.protocol;
	e->verdict = verdict;
	e->reserved = 0;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline int find_slot(const struct __sk_buff *skb, struct packet *p)
{
	__u32 ifindex = skb->ifindex;
	const struct slot *found = bpf_map_lookup_elem(&slots, &ifindex);

	if (!found)
		return -1;
	p->ifindex = ifindex;
	p->len = skb->len;
	p->slot = *found;
	return 0;
}

/* Whether the slot is still what it was when the packet was judged by it. */
static __always_inline int still(const struct packet *p)
{
	__u32 ifindex = p->ifindex;
	const struct slot *now = bpf_map_lookup_elem(&slots, &ifindex);

	return now && now->scope == p->slot.scope && now->identity == p->slot.identity &&
	       now->default_rule == p->slot.default_rule;
}

static __always_inline int rule_of(__u32 scope, __be32 address, int otherwise)
{
	struct rule_key key = { .prefix = 64, .scope = scope, .address = address };
	const __u32 *rule = bpf_map_lookup_elem(&rules, &key);

	return rule ? (int)*rule : otherwise;
}

/* Whether a sandbox with this slot may talk with this address. */
static __always_inline enum verdict judge(const struct slot *slot, __be32 remote)
{
	if (rule_of(SCOPE_DAEMON, remote, RULE_EXEMPT) != RULE_EXEMPT)
		return VERDICT_BLOCKED;
	if (rule_of(slot->scope, remote, slot->default_rule) != RULE_ALLOW)
		return VERDICT_DENIED;
	return VERDICT_PASSED;
}

/* Sends the frame back out of the interface it came from. */
static __always_inline int reflect(struct __sk_buff *skb, const struct packet *p)
{
	skb->mark = REFLECTED_MARK;
	return bpf_redirect(p->ifindex, 0);
}

static __always_inline int answer_arp(struct __sk_buff *skb, const struct packet *p,
				      struct eth *eth)
{
	struct arp arp;

	if (bpf_skb_load_bytes(skb, ETH_LEN, &arp, sizeof(arp)))
		return count(p, VERDICT_MALFORMED);
	if (arp.hardware != bpf_htons(1) || arp.protocol != bpf_htons(ETHERTYPE_IPV4) ||
	    arp.hardware_len != 6 || arp.protocol_len != 4 || arp.operation != bpf_htons(1) ||
	    arp.target != bpf_htonl(GATEWAY_ADDRESS))
		return count(p, VERDICT_NOT_IPV4);
	if (!same_mac(arp.sender_mac, guest_mac))
		return count(p, VERDICT_SPOOFED_MAC);
	if (arp.sender != bpf_htonl(GUEST_ADDRESS))
		return count(p, VERDICT_SPOOFED_SOURCE);

	arp.operation = bpf_htons(2);
	__builtin_memcpy(arp.sender_mac, gateway_mac, 6);
	arp.sender = bpf_htonl(GATEWAY_ADDRESS);
	__builtin_memcpy(arp.target_mac, guest_mac, 6);
	arp.target = bpf_htonl(GUEST_ADDRESS);
	__builtin_memcpy(eth->destination, guest_mac, 6);
	__builtin_memcpy(eth->source, gateway_mac, 6);
	if (bpf_skb_store_bytes(skb, 0, eth, sizeof(*eth), 0) ||
	    bpf_skb_store_bytes(skb, ETH_LEN, &arp, sizeof(arp), 0))
		return count(p, VERDICT_MALFORMED);
	count(p, VERDICT_ARP_ANSWERED);
	return reflect(skb, p);
}

/* The answer to a refused connection: cut to a bare header, turned round, sent back. */
struct reset {
	struct eth eth;
	struct ipv4 ip;
	struct tcp tcp;
} __attribute__((packed));

struct pseudo {
	__be32 source;
	__be32 destination;
	__be16 protocol;
	__be16 len;
};

static __always_inline int answer_reset(struct __sk_buff *skb, const struct packet *p,
					const struct tcp *syn)
{
	struct reset r = {};
	struct pseudo pseudo = {};
	struct ipv4 ip = {};
	struct tcp tcp = {};
	__u64 header, pseudo_sum;

	ip.version_len = IPV4_PLAIN;
	ip.total_len = bpf_htons(IPV4_LEN + TCP_LEN);
	ip.fragment = bpf_htons(0x4000);
	ip.ttl = 64;
	ip.protocol = PROTO_TCP;
	ip.source = p->ip.destination;
	ip.destination = p->ip.source;
	ip.check = ~fold(bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof(ip), 0));

	tcp.source = syn->destination;
	tcp.destination = syn->source;
	tcp.acknowledge = bpf_htonl(bpf_ntohl(syn->sequence) + 1);
	tcp.offset = 5 << 4;
	tcp.flags = TCP_RST | TCP_ACK;
	header = bpf_csum_diff(0, 0, (__be32 *)&tcp, sizeof(tcp), 0);

	pseudo.source = ip.source;
	pseudo.destination = ip.destination;
	pseudo.protocol = bpf_htons(PROTO_TCP);
	pseudo.len = bpf_htons(TCP_LEN);
	pseudo_sum = fold(bpf_csum_diff(0, 0, (__be32 *)&pseudo, sizeof(pseudo), 0));

	/*
	 * A frame whose checksum is left to the device must carry the pseudo header's sum, any other
	 * the finished checksum, and which of the two this is cannot be seen from here. So the sum
	 * goes in, and the kernel is told of a change that makes the finished checksum of it: it
	 * applies that to finished ones only.
	 */
	tcp.check = pseudo_sum;

	__builtin_memcpy(r.eth.destination, guest_mac, 6);
	__builtin_memcpy(r.eth.source, gateway_mac, 6);
	r.eth.type = bpf_htons(ETHERTYPE_IPV4);
	r.ip = ip;
	r.tcp = tcp;
	if (bpf_skb_change_tail(skb, sizeof(r), 0) ||
	    bpf_skb_store_bytes(skb, 0, &r, sizeof(r), 0) ||
	    bpf_l4_csum_replace(skb, TCP_CHECK_OFFSET, 0, fold(header + 2 * pseudo_sum), 0))
		return TC_DROP;
	count(p, VERDICT_RESET);
	return reflect(skb, p);
}

static __always_inline int refuse(struct __sk_buff *skb, const struct packet *p,
				  const struct tcp *tcp, enum verdict verdict)
{
	count(p, verdict);
	report(p, verdict);
	if (p->ip.protocol == PROTO_TCP &&
	    (tcp->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN)
		return answer_reset(skb, p, tcp);
	return TC_DROP;
}

/* Loads the IPv4 header and checks it against the frame; a verdict when it is refused, else -1. */
static __always_inline int load_ipv4(struct __sk_buff *skb, const struct packet *p,
				     struct ipv4 *ip)
{
	__u32 total;

	if (bpf_skb_load_bytes(skb, ETH_LEN, ip, sizeof(*ip)))
		return VERDICT_MALFORMED;
	total = bpf_ntohs(ip->total_len);
	if (ip->version_len != IPV4_PLAIN || total < IPV4_LEN || total + ETH_LEN > p->len)
		return VERDICT_MALFORMED;
	if (ip->protocol == PROTO_TCP && ip->fragment & bpf_htons(FRAGMENT_MORE | FRAGMENT_OFFSET))
		return VERDICT_FRAGMENT;
	if (ip->protocol != PROTO_TCP && ip->protocol != PROTO_UDP && ip->protocol != PROTO_ICMP)
		return VERDICT_PROTOCOL;
	/* Whatever has a transport header must have all of it. */
	if (!(ip->fragment & bpf_htons(FRAGMENT_OFFSET)) &&
	    total < IPV4_LEN + (ip->protocol == PROTO_TCP ? TCP_LEN : sizeof(struct ports)))
		return VERDICT_MALFORMED;
	return -1;
}

SEC("classifier")
int from_guest(struct __sk_buff *skb)
{
	struct packet p = {};
	struct tcp tcp = {};
	struct eth eth;
	int verdict;

	if (find_slot(skb, &p))
		return TC_DROP;
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return count(&p, VERDICT_MALFORMED);
	if (!same_mac(eth.source, guest_mac))
		return count(&p, VERDICT_SPOOFED_MAC);
	if (skb->vlan_present)
		return count(&p, VERDICT_NOT_IPV4);
	if (eth.type == bpf_htons(ETHERTYPE_ARP))
		return answer_arp(skb, &p, &eth);
	if (eth.type != bpf_htons(ETHERTYPE_IPV4))
		return count(&p, VERDICT_NOT_IPV4);
	if (!same_mac(eth.destination, gateway_mac))
		return count(&p, VERDICT_SPOOFED_MAC);

	verdict = load_ipv4(skb, &p, &p.ip);
	if (verdict >= 0)
		return count(&p, verdict);
	if (p.ip.source != bpf_htonl(GUEST_ADDRESS))
		return count(&p, VERDICT_SPOOFED_SOURCE);
	p.remote = p.ip.destination;

	if (!(p.ip.fragment & bpf_htons(FRAGMENT_OFFSET))) {
		if (p.ip.protocol == PROTO_TCP) {
			if (bpf_skb_load_bytes(skb, L4_OFFSET, &tcp, sizeof(tcp)))
				return count(&p, VERDICT_MALFORMED);
		} else if (bpf_skb_load_bytes(skb, L4_OFFSET, &tcp, sizeof(struct ports))) {
			return count(&p, VERDICT_MALFORMED);
		}
		/* The type of an ICMP message is the first byte of what UDP calls the source port. */
		if (p.ip.protocol == PROTO_ICMP && (bpf_ntohs(tcp.source) >> 8) != ICMP_ECHO)
			return count(&p, VERDICT_PROTOCOL);
		if (p.ip.protocol != PROTO_ICMP)
			p.remote_port = tcp.destination;
	}

	verdict = judge(&p.slot, p.remote);
	if (verdict != VERDICT_PASSED)
		return refuse(skb, &p, &tcp, verdict);
	if (!still(&p))
		return count(&p, VERDICT_POLICY_CHANGED);
	if (rewrite_address(skb, &p.ip, IPV4_SOURCE_OFFSET, p.ip.source, p.slot.identity))
		return count(&p, VERDICT_MALFORMED);
	pass_count(&p, VERDICT_PASSED);
	return TC_OK;
}

/*
 * An ICMP error speaks of a packet the guest sent: it may come from any router, but the packet it
 * quotes must be the guest's, to a peer the guest may talk with. The quoted source is translated
 * too; its header checksum changes by the opposite amount, so the ICMP checksum stays right.
 */
static __always_inline int translate_quote(struct __sk_buff *skb, const struct packet *p)
{
	const __be32 guest = bpf_htonl(GUEST_ADDRESS);
	struct ipv4 quote;

	if (bpf_skb_load_bytes(skb, ICMP_INNER_OFFSET, &quote, sizeof(quote)) ||
	    quote.version_len != IPV4_PLAIN)
		return VERDICT_MALFORMED;
	if (quote.source != p->slot.identity ||
	    judge(&p->slot, quote.destination) != VERDICT_PASSED)
		return VERDICT_FOREIGN;
	if (bpf_l3_csum_replace(skb, ICMP_INNER_OFFSET + 10, quote.source, guest, sizeof(guest)) ||
	    bpf_skb_store_bytes(skb, ICMP_INNER_OFFSET + 12, &guest, sizeof(guest), 0))
		return VERDICT_MALFORMED;
	return -1;
}

SEC("classifier")
int to_guest(struct __sk_buff *skb)
{
	const __be32 guest = bpf_htonl(GUEST_ADDRESS);
	const __be32 gateway = bpf_htonl(GATEWAY_ADDRESS);
	struct packet p = {};
	struct eth eth;
	__u8 type = ICMP_ECHO_REPLY;
	int verdict;

	if (skb->mark == REFLECTED_MARK) {
		skb->mark = 0;
		return TC_OK;
	}
	if (find_slot(skb, &p))
		return TC_DROP;
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return count(&p, VERDICT_MALFORMED);
	if (skb->vlan_present || eth.type != bpf_htons(ETHERTYPE_IPV4))
		return count(&p, VERDICT_NOT_IPV4);
	verdict = load_ipv4(skb, &p, &p.ip);
	if (verdict >= 0)
		return count(&p, verdict);
	if (p.ip.destination != p.slot.identity)
		return count(&p, VERDICT_FOREIGN);
	p.remote = p.ip.source;

	if (p.ip.protocol == PROTO_ICMP && !(p.ip.fragment & bpf_htons(FRAGMENT_OFFSET)) &&
	    bpf_skb_load_bytes(skb, L4_OFFSET, &type, sizeof(type)))
		return count(&p, VERDICT_MALFORMED);
	if (type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER) {
		verdict = translate_quote(skb, &p);
		if (verdict >= 0)
			return count(&p, verdict);
		/* Routers of the operator's own network, and the host, stay nameless. */
		if (rule_of(SCOPE_DAEMON, p.remote, RULE_EXEMPT) != RULE_EXEMPT &&
		    rewrite_address(skb, &p.ip, IPV4_SOURCE_OFFSET, p.remote, gateway))
			return count(&p, VERDICT_MALFORMED);
	} else if (type != ICMP_ECHO_REPLY) {
		return count(&p, VERDICT_PROTOCOL);
	} else if (judge(&p.slot, p.remote) != VERDICT_PASSED) {
		report(&p, VERDICT_FOREIGN);
		return count(&p, VERDICT_FOREIGN);
	}
	if (!still(&p))
		return count(&p, VERDICT_POLICY_CHANGED);
	if (rewrite_address(skb, &p.ip, IPV4_DESTINATION_OFFSET, p.ip.destination, guest))
		return count(&p, VERDICT_MALFORMED);
	pass_count(&p, VERDICT_DELIVERED);
	return TC_OK;
}

char program_license[] SEC("license") = "Apache-2.0";
