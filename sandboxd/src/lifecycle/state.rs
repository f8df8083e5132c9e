//! The life of one sandbox as a pure state machine: values in, values out, no clocks, no locks, no I/O.
//!
//! ```text
//!                     Booted                 Kill, Tick past the deadline               KillSent
//!   Creating ───────────────────► Running ───────────────────────────────► Killing ──────────────┐
//!      │  │                          │                                                           ▼
//!      │  └─ Kill: doomed, boot is   └───────────────────── MachineDied ───────────────────► Ending ── Released ─► Gone
//!      │     aborted                                                                             ▲
//!      └──────────────────────────────── BootFailed ─────────────────────────────────────────────┘
//!
//!   Pausing and Paused will hang between Running and Killing: Running → Pausing → Paused → Running.
//! ```
//!
//! | phase | listed | traffic | a kill answers | a connect answers |
//! |---|---|---|---|---|
//! | Creating | no | no | (only the daemon's own shutdown can name it) | 404 |
//! | Running | yes | yes | 204 | 200 |
//! | Killing: the intent is being stored and the signal sent | no | no | 404 | 409 |
//! | Ending: the process dies, files are removed | no | no | 404 | 404 |
//! | Gone | no | no | 404 | 404 |
//!
//! Rules that the property tests hold:
//! 1. A sandbox never runs again once it has left `Running`, whatever arrives later and however late.
//! 2. [`Action::Finish`] is asked for exactly once in every life, and nothing is asked for after [`Action::Forget`].
//! 3. The deadline never lies beyond `started_at` + the longest life; [`Event::Extend`] never brings it nearer, and
//!    leaves it exactly as it was when the new one would not be later.

use crate::moment::Moment;

/// Why a sandbox ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A client asked for it.
    Request,
    /// Its time was over.
    Expired,
    /// The daemon shuts down.
    Shutdown,
    /// The machine ended by itself: the guest stopped or crashed, or the process died.
    Died,
    /// It never came up.
    BootFailed,
    /// The client that asked for it went away before it was ready.
    Abandoned,
}

impl Reason {
    /// All reasons, for metrics.
    pub const ALL: [Self; 6] = [
        Self::Request,
        Self::Expired,
        Self::Shutdown,
        Self::Died,
        Self::BootFailed,
        Self::Abandoned,
    ];

    /// The reason's name in metrics and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Expired => "expired",
            Self::Shutdown => "shutdown",
            Self::Died => "died",
            Self::BootFailed => "boot_failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Where a sandbox is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The machine is being started; `doomed` when it shall be killed the moment it is there.
    Creating {
        /// Why it will be killed.
        doomed: Option<Reason>,
    },
    /// Serves.
    Running,
    /// The intent to kill is being stored and the signal sent.
    Killing(Reason),
    /// The process dies and what it used is released.
    Ending(Reason),
    /// Nothing is left.
    Gone,
}

/// What happened, or what somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The machine serves; the sandbox's time starts.
    Booted(Moment),
    /// The machine could not be started.
    BootFailed,
    /// Somebody wants the sandbox gone.
    Kill(Reason),
    /// The expiry timer fired.
    Tick(Moment),
    /// `POST …/timeout`: the deadline becomes now + seconds.
    SetTimeout(Moment, u32),
    /// `connect`, `refreshes`: the deadline becomes now + seconds where that is later.
    Extend(Moment, u32),
    /// The machine's process ended by itself.
    MachineDied,
    /// The kill intent is stored and the signal sent.
    KillSent,
    /// Everything the sandbox used is released.
    Released,
}

/// What the edge must do after a step, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop waiting for the boot.
    AbortBoot,
    /// Watch for this deadline.
    Schedule(Moment),
    /// Cut all traffic, store the intent, send the signal; then report [`Event::KillSent`].
    Kill(Reason),
    /// Make sure that the process is dead and release what it used; then report [`Event::Released`].
    Finish(Reason),
    /// Drop the sandbox from the registry.
    Forget,
}

/// Why an event changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sandbox is still starting.
    #[error("The sandbox is still starting.")]
    NotYetRunning,
    /// The sandbox is being killed at this moment.
    #[error("The sandbox is being killed.")]
    BeingKilled,
    /// The sandbox is gone.
    #[error("The sandbox is gone.")]
    Gone,
    /// The event has no meaning in this phase.
    #[error("The event has no meaning in this phase.")]
    OutOfPlace,
}

/// The life of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    phase: Phase,
    /// Seconds given by the create request.
    timeout: u32,
    /// Longest life in seconds, from `started_at`.
    longest: u32,
    span: Option<Span>,
}

/// Since when and until when a sandbox runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it began to serve.
    pub started_at: Moment,
    /// When it will be ended.
    pub end_at: Moment,
}

type Step = Result<Vec<Action>, Refusal>;

impl Life {
    /// A sandbox whose start was just asked for.
    pub const fn new(timeout: u32, longest: u32) -> Self {
        Self {
            phase: Phase::Creating { doomed: None },
            timeout,
            longest,
            span: None,
        }
    }

    /// A sandbox that ran when the daemon stopped and still runs.
    pub const fn adopted(span: Span, timeout: u32, longest: u32) -> Self {
        Self {
            phase: Phase::Running,
            timeout,
            longest,
            span: Some(span),
        }
    }

    /// Where it is.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Its span, once it has run.
    pub const fn span(&self) -> Option<Span> {
        self.span
    }

    /// Seconds given by the create request.
    pub const fn timeout(&self) -> u32 {
        self.timeout
    }

    /// Takes one event and says what to do.
    ///
    /// # Errors
    /// [`Refusal`] when the event changes nothing.
    pub fn step(&mut self, event: Event) -> Step {
        match (self.phase, event) {
            (Phase::Creating { doomed: None }, Event::Booted(now)) => self.start(now),
            (Phase::Creating { doomed: Some(why) }, Event::Booted(_)) => Ok(self.kill(why)),
            (Phase::Creating { doomed }, Event::BootFailed) => {
                Ok(self.end(doomed.unwrap_or(Reason::BootFailed)))
            }
            (Phase::Creating { doomed: None }, Event::Kill(why)) => {
                self.phase = Phase::Creating { doomed: Some(why) };
                Ok(vec![Action::AbortBoot])
            }
            (Phase::Creating { .. }, Event::SetTimeout(..) | Event::Extend(..)) => {
                Err(Refusal::NotYetRunning)
            }
            (Phase::Running, Event::Kill(why)) => Ok(self.kill(why)),
            (Phase::Running, Event::MachineDied) => Ok(self.end(Reason::Died)),
            (Phase::Running, Event::Tick(now)) => Ok(self.tick(now)),
            (Phase::Running, Event::SetTimeout(now, seconds)) => Ok(self.set_timeout(now, seconds)),
            (Phase::Running, Event::Extend(now, seconds)) => Ok(self.extend(now, seconds)),
            (Phase::Killing(why), Event::KillSent) => Ok(self.end(why)),
            (Phase::Ending(_), Event::Released) => {
                self.phase = Phase::Gone;
                Ok(vec![Action::Forget])
            }
            (Phase::Killing(_), Event::Extend(..) | Event::SetTimeout(..)) => {
                Err(Refusal::BeingKilled)
            }
            (
                Phase::Killing(_) | Phase::Ending(_) | Phase::Gone,
                Event::Kill(_) | Event::Extend(..) | Event::SetTimeout(..),
            ) => Err(Refusal::Gone),
            _ => Err(Refusal::OutOfPlace),
        }
    }

    fn start(&mut self, now: Moment) -> Step {
        let end_at = now.plus_seconds(self.timeout.min(self.longest));
        self.span = Some(Span {
            started_at: now,
            end_at,
        });
        self.phase = Phase::Running;
        Ok(vec![Action::Schedule(end_at)])
    }

    fn kill(&mut self, why: Reason) -> Vec<Action> {
        self.phase = Phase::Killing(why);
        vec![Action::Kill(why)]
    }

    fn end(&mut self, why: Reason) -> Vec<Action> {
        self.phase = Phase::Ending(why);
        vec![Action::Finish(why)]
    }

    fn tick(&mut self, now: Moment) -> Vec<Action> {
        match self.span {
            Some(span) if span.end_at > now => vec![Action::Schedule(span.end_at)],
            _ => self.kill(Reason::Expired),
        }
    }

    fn set_timeout(&mut self, now: Moment, seconds: u32) -> Vec<Action> {
        let longest = self.longest;
        let Some(span) = &mut self.span else {
            return vec![];
        };
        span.end_at = now
            .plus_seconds(seconds)
            .min(span.started_at.plus_seconds(longest));
        if span.end_at <= now {
            return self.kill(Reason::Expired);
        }
        vec![Action::Schedule(span.end_at)]
    }

    fn extend(&mut self, now: Moment, seconds: u32) -> Vec<Action> {
        let longest = self.longest;
        let Some(span) = &mut self.span else {
            return vec![];
        };
        let wanted = now
            .plus_seconds(seconds)
            .min(span.started_at.plus_seconds(longest));
        if wanted <= span.end_at {
            return vec![];
        }
        span.end_at = wanted;
        vec![Action::Schedule(wanted)]
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
