//! Every verdict, packet by packet, with `BPF_PROG_TEST_RUN`.
//!
//! The kernel runs the loaded programs on frames built here and returns the verdict and the frame
//! as it left. Nothing is attached: the slot stands for the loopback interface, on which test runs
//! take place. Loading needs CAP_BPF and CAP_NET_ADMIN; where the kernel refuses, the tests say so
//! and end.

use std::net::Ipv4Addr;

use aya::EbpfError;
use aya::programs::{TestRun, TestRunOptions};
use proptest::prelude::*;

use super::packets::{
    ACK, Frame, ICMP, Parsed, RST, SYN, TCP, UDP, arp_reply, arp_request, checksum,
};
use super::*;
use crate::link::{GATEWAY_ADDRESS, GATEWAY_MAC, GUEST_ADDRESS, GUEST_MAC};
use crate::policy::{self, EgressPolicy};

const LOOPBACK: u32 = 1;
const TC_OK: u32 = 0;
const TC_DROP: u32 = 2;
const TC_REDIRECT: u32 = 7;
const IDENTITY: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 9);
const OPEN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const CLOSED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A loaded datapath, or `None` with the reason on standard error when the kernel refuses bpf(2)
/// itself. Any other failure is a failure of the test.
fn load(exempt: &[Ipv4Net]) -> Option<Datapath> {
    match Datapath::load(exempt) {
        Ok(datapath) => Some(datapath),
        Err(DatapathError::Load(error)) if refused(&error) => {
            eprintln!("not run: this kernel refuses bpf(2): {error}");
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn refused(error: &EbpfError) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        let errno = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error);
        if matches!(errno, Some(libc::EPERM | libc::EACCES | libc::ENOSYS)) {
            return true;
        }
        source = error.source();
    }
    false
}

fn open_to(ranges: &[&str]) -> EgressPolicy {
    EgressPolicy {
        allow: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..EgressPolicy::deny_all()
    }
}

/// A datapath whose loopback slot may talk with 203.0.113.0/24.
fn guarded() -> Option<Datapath> {
    let mut datapath = load(&[])?;
    datapath
        .tables
        .set(LOOPBACK, IDENTITY, &open_to(&["203.0.113.0/24"]), false)
        .unwrap();
    Some(datapath)
}

struct Ran {
    action: u32,
    frame: Vec<u8>,
    /// Verdicts counted for this packet alone.
    verdicts: Vec<Verdict>,
    mark: u32,
}

/// `struct __sk_buff` has `mark` as its third word.
const MARK: std::ops::Range<usize> = 8..12;

fn run_marked(datapath: &mut Datapath, program: &'static str, frame: &[u8], mark: u32) -> Ran {
    let before = datapath.tables.counters(LOOPBACK).unwrap();
    let mut out = vec![0; frame.len() + 256];
    let mut context = [0; 192];
    context[MARK].copy_from_slice(&mark.to_ne_bytes());
    let mut context_out = [0; 192];
    let result = classifier(&mut datapath.ebpf, program)
        .unwrap()
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            ..TestRunOptions::default()
        })
        .unwrap();
    out.truncate(result.data_size_out as usize);
    let after = datapath.tables.counters(LOOPBACK).unwrap();
    let verdicts = Verdict::ALL
        .into_iter()
        .flat_map(|v| {
            let times = after.packets(v) - before.packets(v);
            std::iter::repeat_n(v, usize::try_from(times).unwrap())
        })
        .collect();
    let mark = u32::from_ne_bytes(context_out[MARK].try_into().unwrap());
    Ran {
        action: result.return_value,
        frame: out,
        verdicts,
        mark,
    }
}

fn run(datapath: &mut Datapath, program: &'static str, frame: &[u8]) -> Ran {
    run_marked(datapath, program, frame, 0)
}

fn from_guest(datapath: &mut Datapath, frame: &Frame) -> Ran {
    run(datapath, FROM_GUEST, &frame.bytes())
}

fn to_guest(datapath: &mut Datapath, frame: &Frame) -> Ran {
    run(datapath, TO_GUEST, &frame.bytes())
}

#[track_caller]
fn assert_dropped(ran: &Ran, verdict: Verdict, sent: &[u8]) {
    assert_eq!((ran.action, &ran.verdicts[..]), (TC_DROP, &[verdict][..]));
    assert_eq!(ran.frame, sent, "a dropped frame was changed");
}

#[test]
fn allowed_packets_leave_with_the_identity_and_right_checksums() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    for frame in [
        Frame::tcp(OPEN, (40_000, 443), 7, SYN, b""),
        Frame::tcp(OPEN, (40_000, 443), 8, ACK, b"some data of odd length"),
        Frame::udp(OPEN, (40_000, 53), b"question"),
        Frame::icmp(OPEN, 8, b"ping"),
    ] {
        let ran = from_guest(&mut datapath, &frame);
        assert_eq!(
            (ran.action, &ran.verdicts[..]),
            (TC_OK, &[Verdict::Passed][..])
        );
        let sent = Parsed::of(&frame.bytes());
        let left = Parsed::of(&ran.frame);
        assert!(left.checksum_ok, "protocol {}", frame.protocol);
        assert_eq!((left.source, left.destination), (IDENTITY, OPEN));
        assert_eq!(
            left.payload[20.min(left.payload.len())..],
            sent.payload[20.min(sent.payload.len())..]
        );
    }
}

#[test]
fn a_udp_packet_without_checksum_stays_without_one() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    let mut frame = Frame::udp(OPEN, (40_000, 53), b"question");
    frame.checksum_at = None;
    let ran = from_guest(&mut datapath, &frame);
    assert_eq!(ran.action, TC_OK);
    assert_eq!(Parsed::of(&ran.frame).payload[6..8], [0, 0]);
}

#[test]
fn a_denied_syn_is_answered_with_a_reset() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    // Options and data behind the header, as real SYNs have them, must not confuse the answer.
    let mut syn = Frame::tcp(
        CLOSED,
        (40_000, 443),
        0xffff_ffff,
        SYN,
        &[2, 4, 5, 0xb4, 1, 1, 1, 0],
    );
    syn.payload[12] = 7 << 4;
    let ran = from_guest(&mut datapath, &syn);
    assert_eq!(ran.action, TC_REDIRECT);
    assert_eq!(ran.verdicts, [Verdict::Denied, Verdict::Reset]);
    assert_eq!(ran.frame.len(), 54);
    assert_eq!(ran.frame[..6], GUEST_MAC);
    assert_eq!(ran.frame[6..12], GATEWAY_MAC);
    let answer = Parsed::of(&ran.frame);
    assert!(answer.checksum_ok);
    assert_eq!((answer.source, answer.destination), (CLOSED, GUEST_ADDRESS));
    assert_eq!(answer.ports(), (443, 40_000));
    assert_eq!(answer.tcp_flags(), RST | ACK);
    assert_eq!(answer.tcp_number(4), 0, "sequence number");
    assert_eq!(answer.tcp_number(8), 0, "acknowledges 0xffffffff + 1");
    // The answer passes the egress program by its mark, which does not stay.
    let back = run_marked(&mut datapath, TO_GUEST, &ran.frame, ran.mark);
    assert_eq!((back.action, back.mark), (TC_OK, 0));
    assert_eq!(back.frame, ran.frame);
}

#[test]
fn only_a_plain_syn_is_answered() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    for flags in [ACK, SYN | ACK, RST, SYN | RST, 0, SYN | 0x01] {
        let frame = Frame::tcp(CLOSED, (40_000, 443), 1, flags, b"");
        let ran = from_guest(&mut datapath, &frame);
        assert_dropped(&ran, Verdict::Denied, &frame.bytes());
    }
}

#[test]
fn denied_udp_and_icmp_are_dropped() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    for frame in [
        Frame::udp(CLOSED, (1, 53), b"q"),
        Frame::icmp(CLOSED, 8, b"ping"),
    ] {
        let ran = from_guest(&mut datapath, &frame);
        assert_dropped(&ran, Verdict::Denied, &frame.bytes());
    }
}

#[test]
fn the_deny_list_closes_what_the_default_opens_and_allow_wins_over_it() {
    let Some(mut datapath) = load(&[]) else {
        return;
    };
    let policy = EgressPolicy {
        allow: vec!["198.51.100.9/32".parse().unwrap()],
        deny: vec!["198.51.100.0/24".parse().unwrap()],
        ..EgressPolicy::allow_all()
    };
    datapath
        .tables
        .set(LOOPBACK, IDENTITY, &policy, false)
        .unwrap();
    let mut verdict =
        |to: [u8; 4]| from_guest(&mut datapath, &Frame::udp(to.into(), (1, 53), b"q")).verdicts;
    assert_eq!(verdict([8, 8, 8, 8]), [Verdict::Passed]);
    assert_eq!(verdict([198, 51, 100, 8]), [Verdict::Denied]);
    assert_eq!(verdict([198, 51, 100, 9]), [Verdict::Passed]);
    assert_eq!(verdict([198, 51, 101, 9]), [Verdict::Passed]);
}

#[test]
fn blocked_ranges_stay_blocked_whatever_the_policy_allows() {
    let Some(mut datapath) = load(&[]) else {
        return;
    };
    let policy = EgressPolicy {
        allow: vec![
            "0.0.0.0/0".parse().unwrap(),
            "169.254.169.254/32".parse().unwrap(),
        ],
        ..EgressPolicy::allow_all()
    };
    datapath
        .tables
        .set(LOOPBACK, IDENTITY, &policy, false)
        .unwrap();
    for range in policy::ALWAYS_BLOCKED {
        for to in [range.network(), range.broadcast()] {
            let ran = from_guest(&mut datapath, &Frame::udp(to, (1, 53), b"q"));
            assert_eq!(ran.verdicts, [Verdict::Blocked], "{to}");
            let syn = from_guest(&mut datapath, &Frame::tcp(to, (1, 80), 1, SYN, b""));
            assert_eq!(syn.verdicts, [Verdict::Blocked, Verdict::Reset], "{to}");
        }
    }
    let neighbour = from_guest(
        &mut datapath,
        &Frame::udp([10, 213, 0, 3].into(), (1, 53), b"q"),
    );
    assert_eq!(neighbour.verdicts, [Verdict::Blocked]);
}

#[test]
fn the_daemon_may_open_a_blocked_range_but_not_metadata_or_other_guests() {
    let exempt: Vec<Ipv4Net> = vec![
        "10.0.0.0/8".parse().unwrap(),
        "169.254.0.0/16".parse().unwrap(),
    ];
    let Some(mut datapath) = load(&exempt) else {
        return;
    };
    datapath
        .tables
        .set(
            LOOPBACK,
            IDENTITY,
            &open_to(&["10.1.0.0/16", "169.254.169.254/32", "10.213.0.0/16"]),
            false,
        )
        .unwrap();
    let mut verdict =
        |to: Ipv4Addr| from_guest(&mut datapath, &Frame::udp(to, (1, 53), b"q")).verdicts;
    assert_eq!(verdict([10, 1, 2, 3].into()), [Verdict::Passed]);
    assert_eq!(
        verdict([10, 2, 2, 3].into()),
        [Verdict::Denied],
        "exempt is not allowed"
    );
    assert_eq!(verdict(METADATA), [Verdict::Blocked]);
    assert_eq!(verdict([10, 213, 0, 3].into()), [Verdict::Blocked]);
}

#[test]
fn a_spoofed_source_address_is_dropped() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    for source in [IDENTITY, OPEN, GATEWAY_ADDRESS, Ipv4Addr::UNSPECIFIED] {
        let mut frame = Frame::udp(OPEN, (1, 53), b"q");
        frame.source = source;
        let ran = from_guest(&mut datapath, &frame);
        assert_dropped(&ran, Verdict::SpoofedSource, &frame.bytes());
    }
}

#[test]
fn spoofed_mac_addresses_are_dropped() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    let mut from_other = Frame::udp(OPEN, (1, 53), b"q");
    from_other.source_mac = [2, 0, 0, 0, 0, 1];
    let mut to_other = Frame::udp(OPEN, (1, 53), b"q");
    to_other.destination_mac = [0xff; 6];
    for frame in [from_other, to_other] {
        let ran = from_guest(&mut datapath, &frame);
        assert_dropped(&ran, Verdict::SpoofedMac, &frame.bytes());
    }
}

#[test]
fn ipv6_vlan_and_unknown_types_are_dropped_both_ways() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    for ethertype in [0x86dd, 0x8100, 0x88a8, 0x8847, 0x0026] {
        let mut frame = Frame::udp(OPEN, (1, 53), b"quite some data to fill the frame");
        frame.ethertype = ethertype;
        let ran = from_guest(&mut datapath, &frame);
        assert_dropped(&ran, Verdict::NotIpv4, &frame.bytes());
        let mut frame = frame.inbound(IDENTITY);
        frame.ethertype = ethertype;
        let ran = to_guest(&mut datapath, &frame);
        assert_dropped(&ran, Verdict::NotIpv4, &frame.bytes());
    }
}

#[test]
fn arp_for_the_gateway_is_answered_and_no_other() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    let ran = run(
        &mut datapath,
        FROM_GUEST,
        &arp_request(GUEST_ADDRESS, GATEWAY_ADDRESS),
    );
    assert_eq!(
        (ran.action, &ran.verdicts[..]),
        (TC_REDIRECT, &[Verdict::ArpAnswered][..])
    );
    assert_eq!(ran.frame, arp_reply());

    let other = arp_request(GUEST_ADDRESS, OPEN);
    assert_dropped(
        &run(&mut datapath, FROM_GUEST, &other),
        Verdict::NotIpv4,
        &other,
    );
    let claimed = arp_request(OPEN, GATEWAY_ADDRESS);
    assert_dropped(
        &run(&mut datapath, FROM_GUEST, &claimed),
        Verdict::SpoofedSource,
        &claimed,
    );
    let mut mac = arp_request(GUEST_ADDRESS, GATEWAY_ADDRESS);
    mac[22] ^= 1;
    assert_dropped(
        &run(&mut datapath, FROM_GUEST, &mac),
        Verdict::SpoofedMac,
        &mac,
    );
    let mut reply = arp_reply();
    reply[6..12].copy_from_slice(&GUEST_MAC);
    assert_dropped(
        &run(&mut datapath, FROM_GUEST, &reply),
        Verdict::NotIpv4,
        &reply,
    );
    let short = arp_request(GUEST_ADDRESS, GATEWAY_ADDRESS)[..41].to_vec();
    assert_dropped(
        &run(&mut datapath, FROM_GUEST, &short),
        Verdict::Malformed,
        &short,
    );
}

#[test]
fn udp_fragments_follow_the_address_and_tcp_fragments_are_dropped() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    let mut first = Frame::udp(OPEN, (1, 53), &[7; 64]);
    first.fragment = 0x2000;
    let ran = from_guest(&mut datapath, &first);
    assert_eq!(ran.verdicts, [Verdict::Passed]);
    // Only the first fragment holds a checksum, over all of them: it changes by the difference.
    let before = u16::from_be_bytes(first.bytes()[40..42].try_into().unwrap());
    let after = u16::from_be_bytes(ran.frame[40..42].try_into().unwrap());
    let expected = checksum(&[
        &(!before).to_be_bytes(),
        &checksum(&[&GUEST_ADDRESS.octets()]).to_be_bytes(),
        &IDENTITY.octets(),
    ]);
    assert_eq!(after, expected);

    let mut later = Frame::udp(OPEN, (1, 53), &[7; 64]);
    later.fragment = 8;
    later.checksum_at = None;
    let ran = from_guest(&mut datapath, &later);
    assert_eq!(ran.verdicts, [Verdict::Passed]);
    assert_eq!(
        ran.frame[34..],
        later.bytes()[34..],
        "data of a later fragment was changed"
    );
    later.destination = CLOSED;
    assert_eq!(
        from_guest(&mut datapath, &later).verdicts,
        [Verdict::Denied]
    );

    for fragment in [0x2000, 1, 0x2001] {
        let mut frame = Frame::tcp(OPEN, (1, 80), 1, SYN, &[0; 32]);
        frame.fragment = fragment;
        let ran = from_guest(&mut datapath, &frame);
        assert_dropped(&ran, Verdict::Fragment, &frame.bytes());
    }
    // A first fragment too short for its transport header hides what it is.
    let mut tiny = Frame::udp(OPEN, (1, 53), b"");
    tiny.fragment = 0x2000;
    tiny.payload.truncate(4);
    tiny.checksum_at = None;
    let ran = from_guest(&mut datapath, &tiny);
    assert_dropped(&ran, Verdict::Malformed, &tiny.bytes());
}

#[test]
fn frames_cut_anywhere_are_dropped_unchanged() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    for frame in [
        Frame::tcp(OPEN, (1, 80), 1, SYN, b"").bytes(),
        Frame::udp(OPEN, (1, 53), b"").bytes(),
        Frame::icmp(OPEN, 8, b"").bytes(),
    ] {
        // Shorter test frames are refused by newer kernels themselves; the tests on a real TAP
        // send those.
        for len in 34..frame.len() {
            let ran = run(&mut datapath, FROM_GUEST, &frame[..len]);
            assert_dropped(&ran, Verdict::Malformed, &frame[..len]);
        }
    }
}

#[test]
fn lying_lengths_and_options_are_malformed() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    let good = Frame::tcp(OPEN, (1, 80), 1, SYN, b"0123456789");
    for total_len in [0, 19, 20, 39, 51, 0xffff] {
        let mut frame = good.clone();
        frame.total_len = Some(total_len);
        let ran = from_guest(&mut datapath, &frame);
        assert_dropped(&ran, Verdict::Malformed, &frame.bytes());
    }
    for version_len in [0x44, 0x46, 0x4f, 0x65, 0x05] {
        let mut frame = good.clone();
        frame.version_len = version_len;
        let ran = from_guest(&mut datapath, &frame);
        assert_dropped(&ran, Verdict::Malformed, &frame.bytes());
    }
    // Padding behind the packet is what short Ethernet frames have.
    let mut padded = good.bytes();
    padded.extend([0; 20]);
    assert_eq!(
        run(&mut datapath, FROM_GUEST, &padded).verdicts,
        [Verdict::Passed]
    );
}

#[test]
fn other_protocols_and_icmp_types_are_dropped() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    for protocol in [0, 2, 41, 47, 50, 132, 255] {
        let mut frame = Frame::udp(OPEN, (1, 53), b"data data data");
        frame.protocol = protocol;
        let ran = from_guest(&mut datapath, &frame);
        assert_dropped(&ran, Verdict::Protocol, &frame.bytes());
    }
    for kind in [0, 3, 5, 9, 10, 11, 13, 255] {
        let frame = Frame::icmp(OPEN, kind, b"data");
        let ran = from_guest(&mut datapath, &frame);
        assert_dropped(&ran, Verdict::Protocol, &frame.bytes());
    }
}

#[test]
fn replies_reach_the_guest_under_its_own_address() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    for frame in [
        Frame::tcp(OPEN, (443, 40_000), 7, SYN | ACK, b""),
        Frame::udp(OPEN, (53, 40_000), b"answer"),
        Frame::icmp(OPEN, 0, b"pong"),
    ] {
        let ran = to_guest(&mut datapath, &frame.inbound(IDENTITY));
        assert_eq!(
            (ran.action, &ran.verdicts[..]),
            (TC_OK, &[Verdict::Delivered][..])
        );
        let parsed = Parsed::of(&ran.frame);
        assert!(parsed.checksum_ok);
        assert_eq!((parsed.source, parsed.destination), (OPEN, GUEST_ADDRESS));
    }
}

#[test]
fn what_is_not_for_the_guest_or_not_from_an_allowed_peer_is_dropped() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    let other = Frame::udp(OPEN, (53, 1), b"a").inbound([10, 213, 0, 10].into());
    assert_dropped(
        &to_guest(&mut datapath, &other),
        Verdict::Foreign,
        &other.bytes(),
    );
    let direct = Frame::udp(OPEN, (53, 1), b"a").inbound(GUEST_ADDRESS);
    assert_dropped(
        &to_guest(&mut datapath, &direct),
        Verdict::Foreign,
        &direct.bytes(),
    );
    let closed = Frame::udp(CLOSED, (53, 1), b"a").inbound(IDENTITY);
    assert_dropped(
        &to_guest(&mut datapath, &closed),
        Verdict::Foreign,
        &closed.bytes(),
    );
    let host = Frame::udp([10, 0, 0, 1].into(), (53, 1), b"a").inbound(IDENTITY);
    assert_dropped(
        &to_guest(&mut datapath, &host),
        Verdict::Foreign,
        &host.bytes(),
    );
    let ping = Frame::icmp(OPEN, 8, b"ping").inbound(IDENTITY);
    assert_dropped(
        &to_guest(&mut datapath, &ping),
        Verdict::Protocol,
        &ping.bytes(),
    );
    let redirect = Frame::icmp(OPEN, 5, b"redirect").inbound(IDENTITY);
    assert_dropped(
        &to_guest(&mut datapath, &redirect),
        Verdict::Protocol,
        &redirect.bytes(),
    );
}

/// An ICMP error from `router` about a packet from `quoted_source` to `quoted_destination`.
fn icmp_error(router: Ipv4Addr, quoted_source: Ipv4Addr, quoted_destination: Ipv4Addr) -> Frame {
    let mut quoted = Frame::udp(quoted_destination, (40_000, 53), b"question");
    quoted.source = quoted_source;
    let quoted = quoted.packet();
    Frame::icmp(router, 3, &quoted[..28]).inbound(IDENTITY)
}

#[test]
fn icmp_errors_about_the_guests_packets_reach_it_from_any_router() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    let router = Ipv4Addr::new(192, 0, 2, 77);
    let ran = to_guest(&mut datapath, &icmp_error(router, IDENTITY, OPEN));
    assert_eq!(
        (ran.action, &ran.verdicts[..]),
        (TC_OK, &[Verdict::Delivered][..])
    );
    let error = Parsed::of(&ran.frame);
    assert!(error.checksum_ok);
    assert_eq!((error.source, error.destination), (router, GUEST_ADDRESS));
    let quoted = &error.payload[8..28];
    assert_eq!(quoted[12..16], GUEST_ADDRESS.octets());
    assert_eq!(checksum(&[quoted]), 0, "quoted header checksum");

    let internal = to_guest(
        &mut datapath,
        &icmp_error([10, 0, 0, 1].into(), IDENTITY, OPEN),
    );
    let error = Parsed::of(&internal.frame);
    assert!(error.checksum_ok);
    assert_eq!(
        error.source, GATEWAY_ADDRESS,
        "an internal router's address was shown"
    );
}

#[test]
fn icmp_errors_about_others_packets_are_dropped() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    for (source, destination) in [
        ([10, 213, 0, 10].into(), OPEN),
        (IDENTITY, CLOSED),
        (IDENTITY, METADATA),
    ] {
        let frame = icmp_error(OPEN, source, destination);
        assert_dropped(
            &to_guest(&mut datapath, &frame),
            Verdict::Foreign,
            &frame.bytes(),
        );
    }
    let short = Frame::icmp(OPEN, 3, &[0x45; 19]).inbound(IDENTITY);
    assert_dropped(
        &to_guest(&mut datapath, &short),
        Verdict::Malformed,
        &short.bytes(),
    );
}

#[test]
fn an_interface_without_a_slot_passes_nothing() {
    let Some(mut datapath) = load(&[]) else {
        return;
    };
    let out = Frame::udp(OPEN, (1, 53), b"q");
    assert_eq!(from_guest(&mut datapath, &out).action, TC_DROP);
    assert_eq!(
        to_guest(&mut datapath, &out.inbound(IDENTITY)).action,
        TC_DROP
    );
    let arp = arp_request(GUEST_ADDRESS, GATEWAY_ADDRESS);
    assert_eq!(run(&mut datapath, FROM_GUEST, &arp).action, TC_DROP);
}

#[test]
fn a_cleared_slot_passes_nothing_and_leaves_no_entry() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    let daemon_rules = policy::compile_daemon(&[]).len();
    datapath
        .tables
        .set(
            LOOPBACK,
            IDENTITY,
            &open_to(&["203.0.113.0/24", "8.8.8.8/32"]),
            false,
        )
        .unwrap();
    assert_eq!(
        datapath.tables.rules.keys().count(),
        daemon_rules + 2,
        "old rules stayed"
    );
    datapath.tables.clear(LOOPBACK).unwrap();
    datapath.tables.clear(LOOPBACK).unwrap();
    let frame = Frame::udp(OPEN, (1, 53), b"q");
    assert_eq!(from_guest(&mut datapath, &frame).action, TC_DROP);
    assert_eq!(datapath.tables.rules.keys().count(), daemon_rules);
    assert_eq!(
        datapath.tables.slots.keys().count() + datapath.tables.counters.keys().count(),
        0
    );
}

#[test]
fn a_new_policy_holds_from_the_next_packet_on() {
    let Some(mut datapath) = guarded() else {
        return;
    };
    let frame = Frame::udp(OPEN, (1, 53), b"q");
    assert_eq!(
        from_guest(&mut datapath, &frame).verdicts,
        [Verdict::Passed]
    );
    datapath
        .tables
        .set(LOOPBACK, IDENTITY, &EgressPolicy::deny_all(), false)
        .unwrap();
    assert_eq!(
        from_guest(&mut datapath, &frame).verdicts,
        [Verdict::Denied]
    );
    datapath
        .tables
        .set(LOOPBACK, IDENTITY, &EgressPolicy::allow_all(), false)
        .unwrap();
    assert_eq!(
        from_guest(&mut datapath, &frame).verdicts,
        [Verdict::Passed]
    );
    assert_eq!(
        datapath
            .tables
            .counters(LOOPBACK)
            .unwrap()
            .packets(Verdict::Passed),
        2
    );
}

/// Two policies are put in turn, as fast as they go, both closed to one address; however packets
/// and changes fall together, none to it may pass. Run with the deny list as the only thing that
/// closes it, which is the one that an unguarded exchange would open for a moment.
#[test]
fn no_change_of_policy_opens_what_both_policies_close() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let Some(mut datapath) = load(&[]) else {
        return;
    };
    let closed = |also: &str| EgressPolicy {
        deny: vec!["198.51.100.0/24".parse().unwrap(), also.parse().unwrap()],
        ..EgressPolicy::allow_all()
    };
    let policies = [closed("192.0.2.0/24"), closed("192.0.2.128/25")];
    datapath
        .tables
        .set(LOOPBACK, IDENTITY, &policies[0], false)
        .unwrap();
    let Datapath { ebpf, tables, .. } = &mut datapath;
    let program = classifier(ebpf, FROM_GUEST).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let packets = scope.spawn(|| {
            let frame = Frame::udp(CLOSED, (1, 53), b"q").bytes();
            while !stop.load(Ordering::Relaxed) {
                let options = TestRunOptions {
                    data_in: Some(&frame),
                    repeat: 10_000,
                    ..TestRunOptions::default()
                };
                program.test_run(options).unwrap();
            }
        });
        for round in 0..20_000 {
            tables
                .set(LOOPBACK, IDENTITY, &policies[round % 2], false)
                .unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        packets.join().unwrap();
    });
    let counters = tables.counters(LOOPBACK).unwrap();
    assert!(counters.packets(Verdict::Denied) > 10_000, "{counters:?}");
    assert_eq!(counters.packets(Verdict::Passed), 0, "{counters:?}");
}

#[test]
fn denials_are_reported_when_the_slot_asks_for_it() {
    let Some(mut datapath) = load(&[]) else {
        return;
    };
    datapath
        .tables
        .set(LOOPBACK, IDENTITY, &open_to(&["203.0.113.0/24"]), false)
        .unwrap();
    from_guest(&mut datapath, &Frame::udp(CLOSED, (1, 53), b"q"));
    assert_eq!(datapath.next_event(), None);
    datapath
        .tables
        .set(LOOPBACK, IDENTITY, &open_to(&["203.0.113.0/24"]), true)
        .unwrap();
    from_guest(&mut datapath, &Frame::udp(OPEN, (1, 53), b"q"));
    from_guest(&mut datapath, &Frame::tcp(CLOSED, (1, 443), 1, SYN, b""));
    let event = datapath.next_event().expect("an event");
    assert!(event.time_ns > 0);
    let expected = Event {
        time_ns: event.time_ns,
        ifindex: LOOPBACK,
        remote: CLOSED,
        remote_port: 443,
        protocol: TCP,
        verdict: Verdict::Denied,
    };
    assert_eq!(event, expected);
    assert_eq!(datapath.next_event(), None);
}

/// What may pass, by an independent reading of the frame.
fn may_pass(frame: &[u8]) -> bool {
    let Some(ip) = frame.get(14..34) else {
        return false;
    };
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    frame[..6] == GATEWAY_MAC
        && frame[6..12] == GUEST_MAC
        && frame[12..14] == [0x08, 0x00]
        && ip[0] == 0x45
        && (20..=frame.len() - 14).contains(&total)
        && [ICMP, TCP, UDP].contains(&ip[9])
        && ip[12..16] == GUEST_ADDRESS.octets()
        && ip[16..19] == [203, 0, 113]
}

#[test]
fn whatever_a_guest_sends_only_its_own_packets_to_open_addresses_pass() {
    let Some(datapath) = guarded() else { return };
    let datapath = std::cell::RefCell::new(datapath);
    let good = prop_oneof![
        Just(Frame::tcp(OPEN, (1, 80), 1, SYN, b"abc").bytes()),
        Just(Frame::udp(OPEN, (1, 53), b"abcdef").bytes()),
        Just(Frame::icmp(OPEN, 8, b"abc").bytes()),
        Just(arp_request(GUEST_ADDRESS, GATEWAY_ADDRESS)),
    ];
    let changes = prop::collection::vec((0..60_usize, any::<u8>()), 0..4);
    let strategy = prop_oneof![
        4 => (good, changes, 54..80_usize).prop_map(|(mut frame, changes, len)| {
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            frame.truncate(len);
            frame
        }),
        1 => prop::collection::vec(any::<u8>(), 54..200),
    ];
    proptest!(ProptestConfig::with_cases(3000), |(frame in strategy)| {
        let ran = run(&mut datapath.borrow_mut(), FROM_GUEST, &frame);
        match ran.action {
            TC_OK => {
                prop_assert!(may_pass(&frame), "{:x?}", frame);
                prop_assert_eq!(&ran.frame[26..30], &IDENTITY.octets()[..]);
            }
            TC_REDIRECT => prop_assert!(ran.frame[..12] == [GUEST_MAC, GATEWAY_MAC].concat()),
            other => prop_assert_eq!(other, TC_DROP),
        }
    });
}
