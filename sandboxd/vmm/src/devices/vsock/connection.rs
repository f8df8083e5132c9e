//! One stream between a guest port and a host socket, as a state machine without I/O: it is told what the guest sent and
//! what became of the socket, and says which packet the guest is to be sent next.
//!
//! ```text
//!   host connects ──► Asking ── REQUEST ──► (waits) ── RESPONSE ──►┐
//!   guest REQUEST ──► Answering ── RESPONSE ──────────────────────►│ Open ──► both directions done ──► Settled
//!                                                                  │           SHUTDOWN(both) to the guest, or RST
//!                     RST, violation, time-out: gone from any state│           when it has said the same
//!
//!   guest → host:  received ─► [ outbox, at most `window` ] ─► forwarded       window, forwarded: told with each packet
//!   host → guest:  sent ─► [ in flight, at most peer_window ] ─► peer_forwarded
//! ```
//!
//! Ordering rules:
//! 1. Nothing but REQUEST or RESPONSE leaves before the connection is open.
//! 2. SHUTDOWN(send) leaves after the last byte of the host, so the end never overtakes the data.
//! 3. Every packet carries our credit; one of its own is sent when the guest could run dry (half the window is news).

use std::num::Wrapping;

use super::packet::{Header, Op, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

/// What the guest did wrong; it is answered with a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The operation does not exist.
    #[error("operation {0} does not exist")]
    UnknownOp(u16),
    /// The operation does not belong into the state.
    #[error("{0:?} makes no sense at this point of the connection")]
    Unexpected(Op),
    /// More data came than our credit allowed.
    #[error("{got} bytes came where the credit was {credit}")]
    CreditExceeded {
        /// Bytes in the packet.
        got: u32,
        /// Bytes that were allowed.
        credit: u32,
    },
    /// The guest says that it has taken bytes that it was never sent.
    #[error("the guest acknowledges bytes that were never sent")]
    BogusCredit,
    /// Data came after the guest had ended its sending.
    #[error("data came after the guest had said that it would send no more")]
    DataAfterShutdown,
}

/// What the caller has to do about a packet of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing but to look for the next packet to send.
    Nothing,
    /// Tell the host socket that the guest has accepted.
    Connected,
    /// Pass the data on, then call [`Connection::forwarded`] for what the socket took.
    Deliver,
    /// Throw the data away: the host no longer takes any.
    Discard,
    /// The guest ended a direction; look at [`Connection::guest_ended`].
    Ended,
    /// The guest dropped the connection.
    Reset,
}

/// The next packet for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// A packet without data.
    Control(Op),
    /// Data of the host, at most so many bytes.
    Data(u32),
}

/// Whether the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// A direction is still in use.
    No,
    /// Nothing more will pass; the guest is told so and is expected to answer with a reset.
    AwaitReset,
    /// Nothing more will pass and the guest knows; it is to be sent a reset.
    Reset,
}

/// Which of its directions a side has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// It will receive nothing more.
    pub receive: bool,
    /// It will send nothing more.
    pub send: bool,
}

impl Ended {
    fn from_flags(flags: u32) -> Self {
        Self {
            receive: flags & SHUTDOWN_RECEIVE != 0,
            send: flags & SHUTDOWN_SEND != 0,
        }
    }

    fn flags(self) -> u32 {
        (u32::from(self.receive) * SHUTDOWN_RECEIVE) | (u32::from(self.send) * SHUTDOWN_SEND)
    }

    fn both(self) -> bool {
        self.receive && self.send
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The host wants the connection; the request is still to be sent.
    Asking,
    /// The request was sent.
    Asked,
    /// The guest wants the connection; the response is still to be sent.
    Answering,
    Open,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    window: u32,
    received: Wrapping<u32>,
    forwarded: Wrapping<u32>,
    /// What the guest last heard of `forwarded`.
    told: Wrapping<u32>,
    sent: Wrapping<u32>,
    peer_window: u32,
    peer_forwarded: Wrapping<u32>,
    guest: Ended,
    host: Ended,
    /// What the guest last heard of `host`.
    host_told: Ended,
    owes_credit: bool,
    asked_for_credit: bool,
}

impl Connection {
    /// A connection that a host process asked for. `window` is the most that it may buffer for the host, in bytes.
    pub fn from_host(window: u32) -> Self {
        Self {
            phase: Phase::Asking,
            window,
            received: Wrapping(0),
            forwarded: Wrapping(0),
            told: Wrapping(0),
            sent: Wrapping(0),
            peer_window: 0,
            peer_forwarded: Wrapping(0),
            guest: Ended::default(),
            host: Ended::default(),
            host_told: Ended::default(),
            owes_credit: false,
            asked_for_credit: false,
        }
    }

    /// A connection that the guest asked for with `request`, and a host process accepted.
    pub fn from_guest(window: u32, request: &Header) -> Self {
        Self {
            phase: Phase::Answering,
            peer_window: request.buf_alloc,
            peer_forwarded: Wrapping(request.fwd_cnt),
            ..Self::from_host(window)
        }
    }

    /// Whether the guest has yet to answer the request of the host.
    pub fn is_pending(&self) -> bool {
        matches!(self.phase, Phase::Asking | Phase::Asked)
    }

    /// What the guest has ended.
    pub fn guest_ended(&self) -> Ended {
        self.guest
    }

    /// Bytes received and not yet forwarded.
    pub fn buffered(&self) -> u32 {
        (self.received - self.forwarded).0
    }

    /// Takes in a packet of the guest. Of a packet with data, `header.len` bytes are then to be delivered or discarded.
    ///
    /// # Errors
    /// What the guest did wrong; the connection is then good for nothing but a reset.
    pub fn on_packet(&mut self, header: &Header) -> Result<Reaction, Violation> {
        let op = Op::from_raw(header.op).ok_or(Violation::UnknownOp(header.op))?;
        if op == Op::Reset {
            return Ok(Reaction::Reset);
        }
        self.take_credit(header)?;
        match (op, self.phase) {
            (Op::Response, Phase::Asked) => {
                self.phase = Phase::Open;
                Ok(Reaction::Connected)
            }
            (Op::Data, Phase::Open) => self.on_data(header.len),
            (Op::Shutdown, Phase::Open) => {
                let now = Ended::from_flags(header.flags);
                self.guest.receive |= now.receive;
                self.guest.send |= now.send;
                Ok(Reaction::Ended)
            }
            (Op::CreditUpdate, Phase::Open) => Ok(Reaction::Nothing),
            (Op::CreditRequest, Phase::Open) => {
                self.owes_credit = true;
                Ok(Reaction::Nothing)
            }
            _ => Err(Violation::Unexpected(op)),
        }
    }

    fn take_credit(&mut self, header: &Header) -> Result<(), Violation> {
        let in_flight = self.sent - Wrapping(header.fwd_cnt);
        if in_flight.0 > u32::MAX / 2 {
            return Err(Violation::BogusCredit);
        }
        self.peer_window = header.buf_alloc;
        self.peer_forwarded = Wrapping(header.fwd_cnt);
        self.asked_for_credit &= self.credit() == 0;
        Ok(())
    }

    fn on_data(&mut self, len: u32) -> Result<Reaction, Violation> {
        if self.guest.send {
            return Err(Violation::DataAfterShutdown);
        }
        let credit = self.window - self.buffered();
        if len > credit {
            return Err(Violation::CreditExceeded { got: len, credit });
        }
        self.received += len;
        if self.host.receive {
            // It may have been on its way when the host went; only the count matters now.
            self.forwarded(len);
            return Ok(Reaction::Discard);
        }
        Ok(Reaction::Deliver)
    }

    /// Notes that the host socket took `len` bytes.
    pub fn forwarded(&mut self, len: u32) {
        self.forwarded += len.min(self.buffered());
        let news = (self.forwarded - self.told).0;
        // While it is still to answer, the answer itself carries the credit.
        self.owes_credit |= news >= self.window / 2 && !self.guest.send;
    }

    /// Notes that the host will send nothing more; all it sent has been passed on.
    pub fn host_finished_sending(&mut self) {
        self.host.send = true;
    }

    /// Notes that the host will take nothing more; what is buffered for it counts as taken.
    pub fn host_stopped_receiving(&mut self) {
        self.host.receive = true;
        self.forwarded(self.buffered());
    }

    /// Whether the connection is over, and how to say so.
    pub fn settle(&mut self) -> Settled {
        let to_host_done = self.host.receive || self.guest.send && self.buffered() == 0;
        let to_guest_done = self.host.send || self.guest.receive;
        if self.phase != Phase::Open || !to_host_done || !to_guest_done {
            return Settled::No;
        }
        if self.guest.both() {
            return Settled::Reset;
        }
        self.host = Ended {
            receive: true,
            send: true,
        };
        Settled::AwaitReset
    }

    /// The next packet for the guest, if any; `readable` says whether the socket may have data.
    pub fn plan(&self, readable: bool) -> Option<Plan> {
        match self.phase {
            Phase::Asking => return Some(Plan::Control(Op::Request)),
            Phase::Asked => return None,
            Phase::Answering => return Some(Plan::Control(Op::Response)),
            Phase::Open => {}
        }
        if readable && !self.host.send && !self.guest.receive {
            match self.credit() {
                0 if !self.asked_for_credit => return Some(Plan::Control(Op::CreditRequest)),
                0 => {}
                credit => return Some(Plan::Data(credit)),
            }
        }
        if self.host != self.host_told {
            return Some(Plan::Control(Op::Shutdown));
        }
        self.owes_credit.then_some(Plan::Control(Op::CreditUpdate))
    }

    /// Fills in operation, flags and credit of a packet that is being sent, and notes that it was.
    pub fn send(&mut self, op: Op, len: u32, header: &mut Header) {
        header.op = op as u16;
        header.len = len;
        header.buf_alloc = self.window;
        header.fwd_cnt = self.forwarded.0;
        self.told = self.forwarded;
        self.owes_credit = false;
        match op {
            Op::Request => self.phase = Phase::Asked,
            Op::Response => self.phase = Phase::Open,
            Op::Data => self.sent += len,
            Op::Shutdown => {
                header.flags = self.host.flags();
                self.host_told = self.host;
            }
            Op::CreditRequest => self.asked_for_credit = true,
            Op::Reset | Op::CreditUpdate => {}
        }
    }

    /// Bytes that the guest can still take.
    fn credit(&self) -> u32 {
        self.peer_window
            .saturating_sub((self.sent - self.peer_forwarded).0)
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
