/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers as they lie in a frame, copied to the stack before anything is read from them. Copies go
 * through bpf_skb_load_bytes, which checks bounds and reads paged data too: no length a guest wrote
 * is ever used as an offset.
 */
#ifndef NETGUARD_PACKET_H
#define NETGUARD_PACKET_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17

#define ETH_LEN 14
#define IPV4_LEN 20
#define TCP_LEN 20
#define L4_OFFSET (ETH_LEN + IPV4_LEN)
#define IPV4_CHECK_OFFSET (ETH_LEN + 10)
#define IPV4_SOURCE_OFFSET (ETH_LEN + 12)
#define IPV4_DESTINATION_OFFSET (ETH_LEN + 16)
#define TCP_CHECK_OFFSET (L4_OFFSET + 16)
#define UDP_CHECK_OFFSET (L4_OFFSET + 6)
#define ICMP_INNER_OFFSET (L4_OFFSET + 8)

/* Version 4 and five words of header: options are refused, source routing among them. */
#define IPV4_PLAIN 0x45
#define FRAGMENT_MORE 0x2000
#define FRAGMENT_OFFSET 0x1fff

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER 12

struct eth {
	__u8 destination[6];
	__u8 source[6];
	__be16 type;
} __attribute__((packed));

struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[6];
	__be32 sender;
	__u8 target_mac[6];
	__be32 target;
} __attribute__((packed));

struct ipv4 {
	__u8 version_len;
	__u8 service;
	__be16 total_len;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 check;
	__be32 source;
	__be32 destination;
} __attribute__((packed));

/* The first eight bytes are all that UDP, ICMP and the ports of TCP need. */
struct ports {
	__be16 source;
	__be16 destination;
	__be32 rest;
} __attribute__((packed));

struct tcp {
	__be16 source;
	__be16 destination;
	__be32 sequence;
	__be32 acknowledge;
	__u8 offset;		/* upper four bits: length in words */
	__u8 flags;
	__be16 window;
	__be16 check;
	__be16 urgent;
} __attribute__((packed));

static const __u8 guest_mac[6] = GUEST_MAC;
static const __u8 gateway_mac[6] = GATEWAY_MAC;

static __always_inline int same_mac(const __u8 *a, const __u8 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4] &&
	       a[5] == b[5];
}

/* Folds a checksum sum to 16 bits, without the final complement. */
static __always_inline __u32 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u32)sum;
}

/*
 * Where the checksum that covers the addresses lies, or 0 when this packet holds none: ICMP has
 * none, and neither have fragments after the first.
 */
static __always_inline __u32 address_check_offset(const struct ipv4 *ip)
{
	if (ip->fragment & bpf_htons(FRAGMENT_OFFSET))
		return 0;
	if (ip->protocol == PROTO_TCP)
		return TCP_CHECK_OFFSET;
	if (ip->protocol == PROTO_UDP)
		return UDP_CHECK_OFFSET;
	return 0;
}

/*
 * Replaces the source or destination address and corrects the checksums by the difference.
 *
 * BPF_F_PSEUDO_HDR tells the kernel that the change is in the pseudo header, so that it does the
 * right thing also for packets whose checksum a device is still to fill in (the guest's own with
 * virtio-net offload). BPF_F_MARK_MANGLED_0 leaves a UDP packet without a checksum without one.
 */
static __always_inline int rewrite_address(struct __sk_buff *skb, const struct ipv4 *ip,
					   __u32 offset, __be32 from, __be32 to)
{
	__u32 check = address_check_offset(ip);
	__u64 flags = BPF_F_PSEUDO_HDR | sizeof(to);

	if (ip->protocol == PROTO_UDP)
		flags |= BPF_F_MARK_MANGLED_0;
	if (check && bpf_l4_csum_replace(skb, check, from, to, flags))
		return -1;
	if (bpf_l3_csum_replace(skb, IPV4_CHECK_OFFSET, from, to, sizeof(to)))
		return -1;
	return bpf_skb_store_bytes(skb, offset, &to, sizeof(to), 0);
}

#endif
