use proptest::prelude::*;

use super::*;

const WINDOW: u32 = 1000;

fn packet(op: Op) -> Header {
    Header {
        op: op as u16,
        buf_alloc: 500,
        ..Header::default()
    }
}

fn data(len: u32) -> Header {
    Header {
        len,
        ..packet(Op::Data)
    }
}

/// Sends what is planned, as if it were a packet without data.
fn send(connection: &mut Connection, readable: bool) -> Option<Header> {
    let mut header = Header::default();
    let (op, len) = match connection.plan(readable)? {
        Plan::Control(op) => (op, 0),
        Plan::Data(most) => (Op::Data, most),
    };
    connection.send(op, len, &mut header);
    Some(header)
}

fn open() -> Connection {
    let mut connection = Connection::from_host(WINDOW);
    assert!(connection.is_pending());
    assert_eq!(send(&mut connection, true).unwrap().op, Op::Request as u16);
    assert_eq!(connection.plan(true), None, "nothing before the response");
    assert_eq!(
        connection.on_packet(&packet(Op::Response)),
        Ok(Reaction::Connected)
    );
    connection
}

#[test]
fn the_guest_s_request_is_answered_before_anything_else() {
    let mut connection = Connection::from_guest(WINDOW, &packet(Op::Request));
    assert_eq!(
        connection.on_packet(&data(1)),
        Err(Violation::Unexpected(Op::Data)),
        "not open before the response"
    );
    let response = send(&mut connection, true).unwrap();
    assert_eq!(
        (response.op, response.buf_alloc),
        (Op::Response as u16, WINDOW)
    );
    assert_eq!(connection.plan(true), Some(Plan::Data(500)));
    assert_eq!(connection.on_packet(&data(1)), Ok(Reaction::Deliver));
}

#[test]
fn data_to_the_guest_stays_within_its_credit() {
    let mut connection = open();
    assert_eq!(send(&mut connection, true).unwrap().len, 500);
    assert_eq!(
        send(&mut connection, true).unwrap().op,
        Op::CreditRequest as u16
    );
    assert_eq!(connection.plan(true), None, "one request is enough");
    connection
        .on_packet(&Header {
            fwd_cnt: 200,
            ..packet(Op::CreditUpdate)
        })
        .unwrap();
    assert_eq!(connection.plan(true), Some(Plan::Data(200)));
    connection
        .on_packet(&Header {
            buf_alloc: 100,
            ..packet(Op::CreditUpdate)
        })
        .unwrap();
    assert_eq!(
        connection.plan(false),
        None,
        "a window that shrank leaves no credit"
    );
}

#[test]
fn the_guest_may_not_exceed_our_credit() {
    let mut connection = open();
    assert_eq!(connection.on_packet(&data(600)), Ok(Reaction::Deliver));
    assert_eq!(connection.on_packet(&data(400)), Ok(Reaction::Deliver));
    let exceeded = Violation::CreditExceeded { got: 1, credit: 0 };
    assert_eq!(connection.on_packet(&data(1)), Err(exceeded));
}

#[test]
fn half_a_window_of_news_is_told() {
    let mut connection = open();
    connection.on_packet(&data(900)).unwrap();
    connection.forwarded(499);
    assert_eq!(connection.plan(false), None);
    connection.forwarded(1);
    let update = send(&mut connection, false).unwrap();
    assert_eq!((update.op, update.fwd_cnt), (Op::CreditUpdate as u16, 500));
    assert_eq!(connection.plan(false), None);
    assert_eq!(connection.buffered(), 400);
}

#[test]
fn a_credit_request_is_answered() {
    let mut connection = open();
    connection.on_packet(&packet(Op::CreditRequest)).unwrap();
    assert_eq!(
        connection.plan(false),
        Some(Plan::Control(Op::CreditUpdate))
    );
}

#[test]
fn the_host_s_end_follows_its_data() {
    let mut connection = open();
    assert_eq!(connection.plan(true), Some(Plan::Data(500)));
    connection.host_finished_sending();
    let end = send(&mut connection, true).unwrap();
    assert_eq!((end.op, end.flags), (Op::Shutdown as u16, SHUTDOWN_SEND));
    assert_eq!(connection.settle(), Settled::No);
    assert_eq!(
        connection.on_packet(&data(3)),
        Ok(Reaction::Deliver),
        "the other way is open"
    );
}

#[test]
fn a_guest_that_closes_gets_a_reset_when_its_data_is_out() {
    let mut connection = open();
    connection.on_packet(&data(10)).unwrap();
    let close = Header {
        flags: SHUTDOWN_RECEIVE | SHUTDOWN_SEND,
        ..packet(Op::Shutdown)
    };
    assert_eq!(connection.on_packet(&close), Ok(Reaction::Ended));
    assert_eq!(connection.settle(), Settled::No);
    connection.forwarded(10);
    assert_eq!(connection.settle(), Settled::Reset);
}

#[test]
fn two_half_closes_end_in_a_shutdown_of_both() {
    let mut connection = open();
    connection
        .on_packet(&Header {
            flags: SHUTDOWN_SEND,
            ..packet(Op::Shutdown)
        })
        .unwrap();
    assert_eq!(connection.settle(), Settled::No);
    connection.host_finished_sending();
    assert_eq!(connection.settle(), Settled::AwaitReset);
    let end = send(&mut connection, true).unwrap();
    assert_eq!(end.flags, SHUTDOWN_RECEIVE | SHUTDOWN_SEND);
    assert_eq!(
        connection.on_packet(&packet(Op::Reset)),
        Ok(Reaction::Reset)
    );
}

#[test]
fn data_for_a_host_that_went_is_thrown_away() {
    let mut connection = open();
    connection.on_packet(&data(10)).unwrap();
    connection.host_stopped_receiving();
    assert_eq!(connection.buffered(), 0);
    assert_eq!(connection.on_packet(&data(1000)), Ok(Reaction::Discard));
    assert_eq!(
        connection.on_packet(&data(1000)),
        Ok(Reaction::Discard),
        "it costs no credit"
    );
    assert_eq!(
        send(&mut connection, false).unwrap().flags,
        SHUTDOWN_RECEIVE
    );
}

#[test]
fn violations_are_named() {
    let mut ended = open();
    ended
        .on_packet(&Header {
            flags: SHUTDOWN_SEND,
            ..packet(Op::Shutdown)
        })
        .unwrap();
    assert_eq!(ended.on_packet(&data(1)), Err(Violation::DataAfterShutdown));

    let unknown = Header {
        op: 9,
        ..Header::default()
    };
    assert_eq!(open().on_packet(&unknown), Err(Violation::UnknownOp(9)));
    for op in [Op::Request, Op::Response] {
        assert_eq!(
            open().on_packet(&packet(op)),
            Err(Violation::Unexpected(op))
        );
    }
    let bogus = Header {
        fwd_cnt: 1,
        ..packet(Op::CreditUpdate)
    };
    assert_eq!(open().on_packet(&bogus), Err(Violation::BogusCredit));
}

#[derive(Clone, Debug)]
enum Event {
    Guest {
        op: u16,
        len: u32,
        flags: u32,
        buf_alloc: u32,
        fwd_cnt: u32,
    },
    HonestGuest {
        op: u16,
        len: u32,
        flags: u32,
    },
    Forwarded(u32),
    HostFinished,
    HostStopped,
    Send {
        readable: bool,
        most: u32,
    },
}

fn events() -> impl Strategy<Value = Event> {
    let op = 0..9u16;
    prop_oneof![
        1 => (op.clone(), any::<u32>(), 0..8u32, any::<u32>(), any::<u32>()).prop_map(
            |(op, len, flags, buf_alloc, fwd_cnt)| Event::Guest { op, len, flags, buf_alloc, fwd_cnt }
        ),
        6 => (op, 0..400u32, 0..4u32).prop_map(|(op, len, flags)| Event::HonestGuest { op, len, flags }),
        4 => (0..600u32).prop_map(Event::Forwarded),
        1 => Just(Event::HostFinished),
        1 => Just(Event::HostStopped),
        6 => (any::<bool>(), 1..700u32).prop_map(|(readable, most)| Event::Send { readable, most }),
    ]
}

proptest! {
    /// Whatever the guest sends and the host does: no panic, never more buffered than the window, never more in flight
    /// than the guest's last word allows, and every packet of ours tells the truth about what was forwarded.
    #[test]
    fn bounds_hold_for_any_history(
        from_guest: bool,
        first in (any::<u32>(), any::<u32>()),
        events in prop::collection::vec(events(), 1..120),
    ) {
        let request = Header { buf_alloc: first.0, fwd_cnt: first.1, ..Header::default() };
        let mut connection = match from_guest {
            true => Connection::from_guest(WINDOW, &request),
            false => Connection::from_host(WINDOW),
        };
        let mut sent = Wrapping(0u32);
        let (mut window, mut acked) = match from_guest {
            true => (first.0, Wrapping(first.1)),
            false => (0, Wrapping(0)),
        };
        let mut forwarded = Wrapping(0u32);
        for event in events {
            match event {
                Event::Guest { op, len, flags, buf_alloc, fwd_cnt } => {
                    let header = Header { op, len, flags, buf_alloc, fwd_cnt, ..Header::default() };
                    let before = connection.buffered();
                    match connection.on_packet(&header) {
                        Ok(Reaction::Reset) | Err(_) => return Ok(()),
                        Ok(Reaction::Discard) => {
                            forwarded += len;
                            prop_assert_eq!(connection.buffered(), before);
                        }
                        Ok(_) => {}
                    }
                    (window, acked) = (buf_alloc, Wrapping(fwd_cnt));
                }
                Event::HonestGuest { op, len, flags } => {
                    let header = Header {
                        op, len, flags, buf_alloc: 300, fwd_cnt: sent.0, ..Header::default()
                    };
                    match connection.on_packet(&header) {
                        Ok(Reaction::Reset) | Err(_) => return Ok(()),
                        Ok(Reaction::Discard) => forwarded += len,
                        Ok(_) => {}
                    }
                    (window, acked) = (300, sent);
                }
                Event::Forwarded(len) => {
                    forwarded += len.min(connection.buffered());
                    connection.forwarded(len);
                }
                Event::HostFinished => connection.host_finished_sending(),
                Event::HostStopped => {
                    forwarded += connection.buffered();
                    connection.host_stopped_receiving();
                }
                Event::Send { readable, most } => {
                    let Some(plan) = connection.plan(readable) else { continue };
                    let (op, len) = match plan {
                        Plan::Control(op) => (op, 0),
                        Plan::Data(credit) => {
                            prop_assert!(readable && credit > 0);
                            (Op::Data, credit.min(most))
                        }
                    };
                    let mut header = Header::default();
                    connection.send(op, len, &mut header);
                    sent += len;
                    if len > 0 {
                        prop_assert!((sent - acked).0 <= window);
                    }
                    prop_assert_eq!((header.op, header.len), (op as u16, len));
                    prop_assert_eq!((header.buf_alloc, header.fwd_cnt), (WINDOW, forwarded.0));
                }
            }
            connection.settle();
            prop_assert!(connection.buffered() <= WINDOW);
        }
    }

    /// Two honest ends that keep moving data never get stuck, whatever the sizes of their buffers and packets.
    #[test]
    fn honest_ends_never_starve(
        guest_window in 1..2000u32, packet_max in 1..900u32, total in 1..20_000u32, take in 1..700u32,
    ) {
        let mut connection = open();
        let (mut to_guest, mut to_host) = (total, total);
        // The guest's side: what it has taken, what it may still send, and the packets on their way to us.
        let (mut taken, mut sent_by_guest) = (Wrapping(0u32), Wrapping(0u32));
        let (mut our_window, mut our_forwarded) = (WINDOW, Wrapping(0u32));
        let mut rounds = 0;
        while to_guest > 0 || to_host > 0 || connection.buffered() > 0 {
            rounds += 1;
            prop_assert!(rounds < 200_000, "stuck with {to_guest} and {to_host} to go");
            // The guest announces itself like Linux does, with every packet and when it took something.
            let credit = our_window - (sent_by_guest - our_forwarded).0;
            let len = credit.min(packet_max).min(to_host);
            let op = if len > 0 { Op::Data } else { Op::CreditUpdate };
            let header = Header {
                op: op as u16, len, buf_alloc: guest_window, fwd_cnt: taken.0, ..Header::default()
            };
            connection.on_packet(&header).unwrap();
            sent_by_guest += len;
            to_host -= len;
            connection.forwarded(take);
            while let Some(plan) = connection.plan(to_guest > 0) {
                let (op, len) = match plan {
                    Plan::Control(op) => (op, 0),
                    Plan::Data(most) => (Op::Data, most.min(packet_max).min(to_guest)),
                };
                let mut header = Header::default();
                connection.send(op, len, &mut header);
                to_guest -= len;
                taken += len;
                (our_window, our_forwarded) = (header.buf_alloc, Wrapping(header.fwd_cnt));
            }
        }
    }
}
