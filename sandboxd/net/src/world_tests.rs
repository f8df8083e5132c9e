//! The whole thing on real TAPs, in network namespaces of its own: packets out, replies back, and
//! everything that must not happen.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use crate::datapath::packets::{ACK, Frame, RST, SYN, checksum};
use crate::link::{GATEWAY_ADDRESS, GUEST_ADDRESS, identity};
use crate::world::{
    CLOSED, Guest, NEVER, OUTSIDE, SOON, UPLINK, World, ip, links, nft, taps, with_world,
};
use crate::{Config, EgressPolicy, Netguard, NetguardError, Verdict, sysctl};

const PSH: u8 = 0x08;

fn open_to(ranges: &[&str]) -> EgressPolicy {
    EgressPolicy {
        allow: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..EgressPolicy::deny_all()
    }
}

fn outside_only() -> EgressPolicy {
    open_to(&["203.0.113.0/24"])
}

/// A UDP socket outside.
fn udp_server(world: &World, address: Ipv4Addr, port: u16) -> UdpSocket {
    world.outside(move || UdpSocket::bind((address, port)).unwrap())
}

fn receive(server: &UdpSocket, within: Duration) -> Option<(Vec<u8>, SocketAddr)> {
    server.set_read_timeout(Some(within)).unwrap();
    let mut buffer = [0; 2048];
    let (len, from) = server.recv_from(&mut buffer).ok()?;
    Some((buffer[..len].to_vec(), from))
}

/// What arrives next at a server, and from where; panics when nothing comes.
#[track_caller]
fn arrival(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    receive(server, SOON).expect("nothing arrived")
}

#[track_caller]
fn assert_no_arrival(server: &UdpSocket) {
    assert_eq!(receive(server, NEVER), None);
}

#[test]
fn a_tcp_connection_goes_out_translated_and_comes_back() {
    with_world(|world| {
        let mut guard = world.open();
        let tap = guard.acquire(&outside_only()).unwrap();
        let mut guest = Guest::on(&tap);
        let listener = world.outside(|| TcpListener::bind((OUTSIDE, 80)).unwrap());
        // Once with finished checksums, once with checksum offload.
        for (port, offload) in [(40_001, false), (40_002, true)] {
            let send = |guest: &mut Guest, frame: Frame| {
                if offload {
                    guest.send_offloaded(&frame)
                } else {
                    guest.send(&frame)
                }
            };
            send(&mut guest, Frame::tcp(OUTSIDE, (port, 80), 1000, SYN, b""));
            let answer = guest.expect();
            assert_eq!((answer.source, answer.ports()), (OUTSIDE, (80, port)));
            assert_eq!(
                (answer.tcp_flags(), answer.tcp_number(8)),
                (SYN | ACK, 1001)
            );
            let next = answer.tcp_number(4).wrapping_add(1);
            let acknowledged = |flags, seq, data: &[u8]| {
                let mut frame = Frame::tcp(OUTSIDE, (port, 80), seq, flags, data);
                frame.payload[8..12].copy_from_slice(&next.to_be_bytes());
                frame
            };
            send(&mut guest, acknowledged(ACK, 1001, b""));
            send(&mut guest, acknowledged(ACK | PSH, 1001, b"question"));
            let (mut stream, from) = listener.accept().unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            assert_eq!(from.ip(), UPLINK, "not masqueraded");
            let mut question = [0; 8];
            stream.read_exact(&mut question).unwrap();
            assert_eq!(&question, b"question");
            stream.write_all(b"answer").unwrap();
            let data = loop {
                let packet = guest.expect();
                let header = usize::from(packet.payload[12] >> 4) * 4;
                if packet.payload.len() > header {
                    break packet.payload[header..].to_vec();
                }
            };
            assert_eq!(data, b"answer");
            send(&mut guest, acknowledged(RST | ACK, 1009, b""));
            while guest.receive(NEVER).is_some() {}
        }
        let counters = guard.counters(tap.slot).unwrap();
        assert!(counters.packets(Verdict::Passed) >= 8, "{counters:?}");
        assert!(counters.bytes_to_guest() > 0);
        guard.close().unwrap();
    });
}

#[test]
fn udp_with_and_without_checksum_and_ping_get_their_replies() {
    with_world(|world| {
        let mut guard = world.open();
        let tap = guard.acquire(&outside_only()).unwrap();
        let mut guest = Guest::on(&tap);
        let server = udp_server(world, OUTSIDE, 53);
        let mut bare = Frame::udp(OUTSIDE, (40_001, 53), b"bare");
        bare.checksum_at = None;
        guest.send(&bare);
        assert_eq!(arrival(&server).0, b"bare");
        guest.send_offloaded(&Frame::udp(OUTSIDE, (40_002, 53), b"odd"));
        let (data, from) = arrival(&server);
        assert_eq!((&data[..], from.ip()), (&b"odd"[..], UPLINK.into()));
        server.send_to(b"reply", from).unwrap();
        let reply = guest.expect();
        assert_eq!((reply.source, reply.ports()), (OUTSIDE, (53, 40_002)));
        assert_eq!(&reply.payload[8..], b"reply");

        guest.send(&Frame::icmp(OUTSIDE, 8, b"ping"));
        let pong = guest.expect();
        assert_eq!((pong.source, pong.payload[0]), (OUTSIDE, 0));
        assert_eq!(&pong.payload[8..], b"ping");
        guard.close().unwrap();
    });
}

#[test]
fn large_datagrams_are_fragmented_and_put_together() {
    with_world(|world| {
        let mut guard = world.open();
        let tap = guard.acquire(&outside_only()).unwrap();
        let mut guest = Guest::on(&tap);
        let server = udp_server(world, OUTSIDE, 53);
        let data: Vec<u8> = (0..2000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let whole = Frame::udp(OUTSIDE, (40_001, 53), &data).packet();
        for (offset, more, range) in [
            (0, 0x2000, 20..20 + 1480),
            (1480, 0, 20 + 1480..whole.len()),
        ] {
            let mut part = Frame::udp(OUTSIDE, (0, 0), b"");
            part.payload = whole[range].to_vec();
            part.checksum_at = None;
            part.fragment = more | (offset / 8);
            guest.send(&part);
        }
        let (arrived, from) = arrival(&server);
        assert_eq!(arrived, data);
        server.send_to(&data, from).unwrap();
        let (first, second) = (guest.expect(), guest.expect());
        assert_eq!([&first.payload[8..], &second.payload[..]].concat(), data);
        guard.close().unwrap();
    });
}

#[test]
fn a_denied_connection_is_reset_at_once_and_nothing_gets_out() {
    with_world(|world| {
        let mut guard = world.open();
        let tap = guard.acquire(&outside_only()).unwrap();
        let mut guest = Guest::on(&tap);
        let listener = world.outside(|| TcpListener::bind((CLOSED, 80)).unwrap());
        listener.set_nonblocking(true).unwrap();
        let server = udp_server(world, CLOSED, 53);
        let syn = Frame::tcp(CLOSED, (40_001, 80), 7, SYN, b"");
        for offload in [false, true] {
            if offload {
                guest.send_offloaded(&syn)
            } else {
                guest.send(&syn)
            }
            let reset = guest.expect();
            assert_eq!((reset.source, reset.ports()), (CLOSED, (80, 40_001)));
            assert_eq!((reset.tcp_flags(), reset.tcp_number(8)), (RST | ACK, 8));
        }
        // With options and data behind the header, the checksum still to be made.
        let mut long = Frame::tcp(CLOSED, (40_001, 80), 7, SYN, &[2, 4, 5, 0xb4, 9, 9, 9]);
        long.payload[12] = 6 << 4;
        guest.send_offloaded(&long);
        assert_eq!(guest.expect().tcp_flags(), RST | ACK);

        guest.send(&Frame::udp(CLOSED, (40_001, 53), b"leak"));
        assert_no_arrival(&server);
        assert!(listener.accept().is_err());
        let counters = guard.counters(tap.slot).unwrap();
        assert_eq!(counters.packets(Verdict::Reset), 3);
        assert_eq!(counters.packets(Verdict::Denied), 4);
        assert_eq!(counters.packets(Verdict::Passed), 0);
        guard.close().unwrap();
    });
}

#[test]
fn a_service_of_the_host_sees_who_calls_and_only_those_it_is_opened_to() {
    let service = Ipv4Addr::new(198, 18, 0, 7);
    with_world(|world| {
        let mut guard = Netguard::open(Config {
            services: vec![service],
            ..world.config()
        })
        .unwrap();
        let listener = TcpListener::bind((service, 80)).unwrap();
        let other = TcpListener::bind((service, 81)).unwrap();
        other.set_nonblocking(true).unwrap();
        let tap = guard.acquire(&open_to(&["198.18.0.7/32"])).unwrap();
        let mut guest = Guest::on(&tap);
        guest.send(&Frame::tcp(service, (40_001, 80), 1000, SYN, b""));
        let answer = guest.expect();
        assert_eq!((answer.source, answer.ports()), (service, (80, 40_001)));
        assert_eq!(answer.tcp_flags(), SYN | ACK);
        let mut last = Frame::tcp(service, (40_001, 80), 1001, ACK, b"");
        last.payload[8..12].copy_from_slice(&answer.tcp_number(4).wrapping_add(1).to_be_bytes());
        guest.send(&last);
        let (_open, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), tap.identity);
        // Another port of the same address is the host's own.
        guest.send(&Frame::tcp(service, (40_002, 81), 1000, SYN, b""));
        guest.expect_nothing();
        assert!(other.accept().is_err());

        // A sandbox whose policy does not name it is refused at once.
        listener.set_nonblocking(true).unwrap();
        let tap = guard.acquire(&EgressPolicy::deny_all()).unwrap();
        let mut stranger = Guest::on(&tap);
        stranger.send(&Frame::tcp(service, (40_001, 80), 7, SYN, b""));
        assert_eq!(stranger.expect().tcp_flags(), RST | ACK);
        assert!(listener.accept().is_err());
        let name = links().into_iter().find(|name| name.starts_with("svc-"));
        let name = name.expect("no interface");
        assert!(links().contains(&name));
        // A successor has it again, also when its predecessor left everything behind.
        drop(guard);
        assert!(!links().contains(&name));
        let guard = Netguard::open(Config {
            services: vec![service],
            ..world.config()
        })
        .unwrap();
        assert!(links().contains(&name));
        guard.close().unwrap();
        assert!(!links().contains(&name));
    });
}

#[test]
fn an_update_holds_at_once_for_connections_that_exist() {
    with_world(|world| {
        let mut guard = world.open();
        let tap = guard.acquire(&outside_only()).unwrap();
        let mut guest = Guest::on(&tap);
        let server = udp_server(world, OUTSIDE, 53);
        let frame = Frame::udp(OUTSIDE, (40_001, 53), b"data");
        guest.send(&frame);
        let (_, from) = arrival(&server);
        guard.update(tap.slot, &EgressPolicy::deny_all()).unwrap();
        guest.send(&frame);
        assert_no_arrival(&server);
        server.send_to(b"late", from).unwrap();
        guest.expect_nothing();
        guard.update(tap.slot, &outside_only()).unwrap();
        guest.send(&frame);
        arrival(&server);
        guard.close().unwrap();
    });
}

#[test]
fn neither_the_host_nor_another_guest_can_be_reached() {
    with_world(|world| {
        let config = Config {
            exempt: vec!["10.0.0.0/8".parse().unwrap()],
            ..world.config()
        };
        let mut guard = Netguard::open(config).unwrap();
        let policy = EgressPolicy {
            allow: vec!["0.0.0.0/0".parse().unwrap()],
            ..EgressPolicy::allow_all()
        };
        let (one, two) = (
            guard.acquire(&policy).unwrap(),
            guard.acquire(&policy).unwrap(),
        );
        let (mut guest, mut other) = (Guest::on(&one), Guest::on(&two));
        let host = UdpSocket::bind((UPLINK, 53)).unwrap();
        let any = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 54)).unwrap();
        for (to, port) in [
            (UPLINK, 53),
            (UPLINK, 54),
            (GATEWAY_ADDRESS, 54),
            (Ipv4Addr::LOCALHOST, 54),
            (Ipv4Addr::BROADCAST, 54),
            (two.identity, 54),
            (GUEST_ADDRESS, 54),
        ] {
            guest.send(&Frame::udp(to, (40_001, port), b"knock"));
        }
        assert_no_arrival(&host);
        assert_no_arrival(&any);
        other.expect_nothing();
        guest.expect_nothing();
        // From the host to a guest: nothing either, not even a ping.
        let knock = host.send_to(b"knock", (one.identity, 1));
        assert!(knock.is_err() || guest.receive(NEVER).is_none());
        guard.close().unwrap();
    });
}

#[test]
fn hostile_frames_are_counted_and_nothing_comes_of_them() {
    with_world(|world| {
        let mut guard = world.open();
        let tap = guard.acquire(&EgressPolicy::allow_all()).unwrap();
        let mut guest = Guest::on(&tap);
        let server = udp_server(world, OUTSIDE, 53);
        let good = Frame::udp(OUTSIDE, (40_001, 53), b"");
        for len in 0..good.bytes().len() {
            guest.send_bytes(&good.bytes()[..len]);
        }
        let mut spoofed = good.clone();
        spoofed.source = UPLINK;
        guest.send(&spoofed);
        let mut neighbour = good.clone();
        neighbour.source = identity(tap.slot + 1).unwrap();
        guest.send(&neighbour);
        let mut ipv6 = Frame::udp(OUTSIDE, (40_001, 53), &[0; 40]);
        ipv6.ethertype = 0x86dd;
        guest.send(&ipv6);
        // A tag in front of a good packet: the kernel takes it off before the program sees it.
        let mut tagged = good.bytes();
        tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        guest.send_bytes(&tagged);
        guest.send_bytes(&[0xff; 1500]);
        assert_no_arrival(&server);
        let counters = guard.counters(tap.slot).unwrap();
        // 34 to 41 bytes: IPv4 whole, UDP not; 14 to 33: IPv4 not whole. The kernel takes none
        // shorter than an Ethernet header.
        assert_eq!(counters.packets(Verdict::Malformed), 28, "{counters:?}");
        assert_eq!(counters.packets(Verdict::SpoofedSource), 2);
        assert_eq!(counters.packets(Verdict::SpoofedMac), 1);
        assert_eq!(counters.packets(Verdict::NotIpv4), 2);
        assert_eq!(counters.packets(Verdict::Passed), 0);
        guest.send(&good);
        assert_eq!(arrival(&server).0, b"", "the good one");
        guard.close().unwrap();
    });
}

#[test]
fn a_closed_port_outside_is_reported_to_the_guest() {
    with_world(|world| {
        let mut guard = world.open();
        let tap = guard.acquire(&outside_only()).unwrap();
        let mut guest = Guest::on(&tap);
        guest.send(&Frame::udp(OUTSIDE, (40_001, 9), b"anyone?"));
        let error = guest.expect();
        assert_eq!(
            (error.source, error.payload[..2].to_vec()),
            (OUTSIDE, vec![3, 3])
        );
        let quoted = &error.payload[8..28];
        assert_eq!(quoted[12..16], GUEST_ADDRESS.octets());
        assert_eq!(checksum(&[quoted]), 0);
        guard.close().unwrap();
    });
}

#[test]
fn path_mtu_is_learnt_without_learning_the_hosts_address() {
    with_world(|world| {
        // The host answers from the interface it answers through, whose address is private here.
        ip("address flush dev up0");
        ip("address add 192.168.7.1/24 dev up0");
        ip("route add 203.0.113.0/24 dev up0");
        ip("link set up0 mtu 1300");
        let mut guard = world.open();
        let tap = guard.acquire(&outside_only()).unwrap();
        let mut guest = Guest::on(&tap);
        guest.send(&Frame::udp(OUTSIDE, (40_001, 53), &[0; 1400]));
        let error = guest.expect();
        assert_eq!(error.payload[..2], [3, 4], "fragmentation needed");
        assert_eq!(
            u16::from_be_bytes([error.payload[6], error.payload[7]]),
            1300
        );
        assert_eq!(error.source, GATEWAY_ADDRESS);
        guard.close().unwrap();
    });
}

#[test]
fn a_released_slot_is_dead_and_its_connections_do_not_reach_the_next() {
    with_world(|world| {
        let mut guard = world.open();
        let tap = guard.acquire(&outside_only()).unwrap();
        let mut guest = Guest::on(&tap);
        let server = udp_server(world, OUTSIDE, 53);
        guest.send(&Frame::udp(OUTSIDE, (40_001, 53), b"mine"));
        let (_, from) = arrival(&server);
        guard.release(tap.slot).unwrap();
        assert!(matches!(
            guard.release(tap.slot),
            Err(NetguardError::NoSuchSlot(0))
        ));
        guest.send(&Frame::udp(OUTSIDE, (40_001, 53), b"still there?"));
        assert_no_arrival(&server);
        drop(guest);

        let next = guard.acquire(&outside_only()).unwrap();
        assert_eq!(next.slot, tap.slot, "the spare TAP is used again");
        let mut guest = Guest::on(&next);
        server.send_to(b"secret of the first", from).unwrap();
        guest.expect_nothing();
        assert_eq!(
            guard.counters(next.slot).unwrap().packets(Verdict::Passed),
            0
        );
        guard.close().unwrap();
    });
}

#[test]
fn the_pool_rests_at_its_number_of_spares_and_close_leaves_nothing() {
    with_world(|world| {
        assert!(!sysctl::forwards().unwrap());
        let mut guard = world.open();
        assert_eq!(taps(), ["sbx0"]);
        let all: Vec<u32> = (0..4)
            .map(|_| guard.acquire(&EgressPolicy::deny_all()).unwrap().slot)
            .collect();
        assert_eq!(all, [0, 1, 2, 3]);
        assert!(matches!(
            guard.acquire(&EgressPolicy::deny_all()),
            Err(NetguardError::Exhausted(4))
        ));
        for slot in all {
            guard.release(slot).unwrap();
        }
        assert_eq!(taps().len(), 1);
        assert!(sysctl::forwards().unwrap());
        assert!(nft("list tables").contains("inet sandboxd_"));
        guard.close().unwrap();
        assert_eq!(taps().len(), 0);
        assert_eq!(nft("list tables"), "");
        assert!(!sysctl::forwards().unwrap());
        assert_eq!(fs::read_dir(world.state.path()).unwrap().count(), 0);
    });
}

#[test]
fn a_refused_policy_takes_no_slot() {
    with_world(|world| {
        let mut guard = world.open();
        let too_many = EgressPolicy {
            allow: vec!["8.8.8.8/32".parse().unwrap(); crate::policy::MAX_RANGES + 1],
            ..EgressPolicy::deny_all()
        };
        for _ in 0..5 {
            assert!(matches!(
                guard.acquire(&too_many),
                Err(NetguardError::Datapath(_))
            ));
        }
        assert_eq!(
            (0..4)
                .filter(|_| guard.acquire(&outside_only()).is_ok())
                .count(),
            4
        );
        guard.close().unwrap();
    });
}

#[test]
fn a_successor_takes_over_live_sandboxes_and_sweeps_the_rest() {
    with_world(|world| {
        let mut guard = world.open();
        let tap = guard.acquire(&outside_only()).unwrap();
        let lost = guard.acquire(&outside_only()).unwrap();
        let mut guest = Guest::on(&tap);
        let server = udp_server(world, OUTSIDE, 53);
        let frame = Frame::udp(OUTSIDE, (40_001, 53), b"data");
        guest.send(&frame);
        let (_, from) = arrival(&server);
        // The daemon dies: no close. Its programs go on guarding.
        drop(guard);
        guest.send(&frame);
        assert_eq!(arrival(&server).1, from, "the connection was cut");
        guest.send(&Frame::udp(CLOSED, (40_001, 53), b"leak"));

        let mut guard = world.open();
        assert!(matches!(
            guard.counters(tap.slot),
            Err(NetguardError::NoSuchSlot(_))
        ));
        assert_eq!(guard.adopt(tap.slot, &outside_only()).unwrap(), tap);
        assert!(matches!(
            guard.adopt(tap.slot, &outside_only()),
            Err(NetguardError::NoSuchSlot(_))
        ));
        assert_eq!(guard.sweep().unwrap(), 1);
        assert!(!taps().contains(&lost.name) || guard.adopt(lost.slot, &outside_only()).is_err());
        guest.send(&frame);
        assert_eq!(arrival(&server).1, from);
        server.send_to(b"reply", from).unwrap();
        assert_eq!(&guest.expect().payload[8..], b"reply");
        // The new programs count, the old ones are gone from the interface.
        assert_eq!(
            guard.counters(tap.slot).unwrap().packets(Verdict::Passed),
            1
        );
        guard.update(tap.slot, &EgressPolicy::deny_all()).unwrap();
        guest.send(&frame);
        assert_no_arrival(&server);
        guard.close().unwrap();
        assert_eq!(taps().len(), 0);
    });
}

#[test]
fn a_tap_that_somebody_deleted_is_made_again() {
    with_world(|world| {
        let mut guard = world.open();
        ip("link delete sbx0");
        let tap = guard.acquire(&outside_only()).unwrap();
        assert_eq!(tap.name, "sbx0");
        Guest::on(&tap);
        ip("link delete sbx0");
        guard.release(tap.slot).unwrap();
        let tap = guard.acquire(&outside_only()).unwrap();
        assert_eq!(tap.name, "sbx0");
        Guest::on(&tap);
        guard.close().unwrap();
    });
}

#[test]
fn an_interface_of_somebody_else_is_left_alone() {
    with_world(|world| {
        ip("tuntap add dev sbx0 mode tap");
        let mut guard = world.open();
        let tap = guard.acquire(&outside_only()).unwrap();
        assert_eq!(tap.name, "sbx1");
        guard.close().unwrap();
        assert_eq!(taps(), ["sbx0"]);
    });
}

#[test]
fn one_guest_cannot_fill_the_table_of_connections() {
    with_world(|world| {
        let mut guard = world.open();
        let tap = guard.acquire(&outside_only()).unwrap();
        let mut guest = Guest::on(&tap);
        let flows = crate::firewall::FLOWS_PER_GUEST;
        for n in 0..flows + 200 {
            let ports = (u16::try_from(1024 + n).unwrap(), 53);
            guest.send(&Frame::udp(OUTSIDE, ports, b""));
        }
        let count: u32 = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert!(count >= flows / 2, "the test made only {count} connections");
        assert!(count <= flows, "{count} connections of one guest");
        guard.close().unwrap();
    });
}
