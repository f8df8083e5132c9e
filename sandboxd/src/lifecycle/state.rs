//! The life of one sandbox as a pure state machine: values in, values out, no clocks, no locks, no I/O.
//!
//! ```text
//!                          Capture            Done
//!             ┌──────────► Capturing ─────────────┐
//!             │            RollBack           Done│
//!             ├──────────► RollingBack ───────────┤                      Kill                      KillSent, and what was
//!   Booted    │                                   ▼    (or Tick past the deadline)                 under way has ended
//!  Creating ──┴─────────► Running ◄───────────────┘  ─────────────────────────► Killing ───────────────────────► Ending
//!             ▲            │   ▲ Done                 from every phase above                                       │
//!             │ Booted     │   └───────── Pausing      and below, at once                                 Released  ▼
//!             │            └─ Pause, Tick ──►│                                                                    Gone
//!        Resuming ◄──────── Paused ◄─────────┘ Paused
//!             └─ BootFailed ──► Paused
//! ```
//!
//! Creating, Capturing, RollingBack, Pausing and Resuming are *transitions*: exactly one operation is under way, and it
//! reports its outcome exactly once (`Booted`, `BootFailed`, `Done`, `Lost` or `Paused`), whatever happens meanwhile. Until
//! it has, nothing that it uses is released.
//!
//! | phase | listed as | traffic | a kill answers | a connect answers |
//! |---|---|---|---|---|
//! | Creating | no | no | (only the daemon's own shutdown can name it) | 404 |
//! | Running, Capturing | running | yes | 204 | 200 |
//! | RollingBack | running | waits | 204 | 200 |
//! | Pausing | running | no; waits where traffic wakes it | 204 | waits, then resumes |
//! | Paused | paused | no; wakes it where that was asked for | 204 | resumes |
//! | Resuming | paused | no; waits where traffic wakes it | 204 | waits |
//! | Killing: the intent is being stored and the signal sent | no | no | 404 | 409 |
//! | Ending: the process dies, files are removed | no | no | 404 | 404 |
//! | Gone | no | no | 404 | 404 |
//!
//! Rules that the property tests hold:
//! 1. A sandbox never leaves `Killing`, `Ending` or `Gone` but forwards, whatever arrives later and however late.
//! 2. [`Action::Finish`] is asked for exactly once in every life, never while an operation is under way, and nothing is
//!    asked for after [`Action::Forget`].
//! 3. The deadline never lies beyond the begin of the current run + the longest life; [`Event::Extend`] never brings it
//!    nearer, and leaves it exactly as it was when the new one would not be later.
//! 4. What a machine of an earlier run reports (its death) changes nothing in a later one.
//! 5. A deadline that passes during a transition is judged when it is over.

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

/// What becomes of a sandbox when its time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTimeout {
    /// It is killed.
    #[default]
    Kill,
    /// It is paused.
    Pause {
        /// With its memory; else its disk alone is kept.
        memory: bool,
    },
}

/// Where a sandbox is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The machine is being started.
    Creating,
    /// Serves.
    Running,
    /// Serves, while a snapshot of it is taken.
    Capturing,
    /// Goes back to a checkpoint.
    RollingBack,
    /// A snapshot is taken; then the machine ends.
    Pausing,
    /// Only its snapshot is left.
    Paused,
    /// A machine is being started from its snapshot, to live for so many seconds.
    Resuming(u32),
    /// The intent to kill is being stored and the signal sent.
    Killing {
        /// Why.
        why: Reason,
        /// Both are done.
        sent: bool,
        /// The operation that was interrupted has not ended yet.
        busy: bool,
    },
    /// The process dies and what it used is released.
    Ending(Reason),
    /// Nothing is left.
    Gone,
}

/// What happened, or what somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Outcome: the machine serves; the sandbox's time starts.
    Booted(Moment),
    /// Outcome: the machine could not be started.
    BootFailed,
    /// Outcome: the operation has ended and the machine goes on, whether or not it did what it was for.
    Done(Moment),
    /// Outcome: the operation has ended and the machine with it.
    Lost,
    /// Outcome: the snapshot is whole and everything else of the machine is gone.
    Paused(Moment),
    /// Somebody wants the sandbox gone.
    Kill(Reason),
    /// The daemon shuts down: what runs is to end, what is paused stays.
    Stop,
    /// The expiry timer fired.
    Tick(Moment),
    /// `POST …/timeout`: the deadline becomes now + seconds.
    SetTimeout(Moment, u32),
    /// `connect`, `refreshes`: the deadline becomes now + seconds where that is later.
    Extend(Moment, u32),
    /// A snapshot is to be taken in place.
    Capture,
    /// It is to go back to a checkpoint.
    RollBack,
    /// It is to be paused.
    Pause,
    /// It is to go on, for so many seconds.
    Resume(u32),
    /// The process of the machine of this run ended by itself.
    MachineDied(u32),
    /// The kill intent is stored and the signal sent.
    KillSent,
    /// Everything the sandbox used is released.
    Released,
}

/// What the edge must do after a step, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop waiting for the operation that is under way.
    Abort,
    /// Watch for this deadline, and store it.
    Schedule(Moment),
    /// Send a tick at this moment; the deadline stays what it is.
    Wake(Moment),
    /// There is no deadline any more.
    Unschedule,
    /// Cut all traffic.
    Cut,
    /// Carry out the pause that has begun.
    Pause {
        /// With its memory.
        memory: bool,
    },
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
    /// The sandbox runs.
    #[error("The sandbox is running already.")]
    Running,
    /// The sandbox is paused.
    #[error("The sandbox is paused.")]
    Paused,
    /// Another operation is under way; the same may be asked for when it has ended.
    #[error("Another operation on the sandbox is still under way.")]
    InTransition,
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

/// How often an automatic pause is tried before the sandbox is killed instead.
const PAUSE_ATTEMPTS: u8 = 4;

/// Seconds from one attempt to the next.
const PAUSE_RETRY: u32 = 30;

/// The life of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    phase: Phase,
    limits: Limits,
    span: Option<Span>,
    /// Which run this is; a sandbox that never served is in run 0.
    run: u32,
    /// The machine died during the operation that is under way.
    died: bool,
    /// Automatic pauses that failed one after the other.
    attempts: u8,
}

/// What bounds a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds given by the create request.
    pub timeout: u32,
    /// Longest run in seconds.
    pub longest: u32,
    /// What becomes of it at the end.
    pub on_timeout: OnTimeout,
}

/// Since when and until when a sandbox runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it first began to serve.
    pub started_at: Moment,
    /// When the current run began: the same, or when it was last resumed.
    pub since: Moment,
    /// When it will be ended; once it is paused, when that was.
    pub end_at: Moment,
}

type Step = Result<Vec<Action>, Refusal>;

impl Life {
    /// A sandbox whose start was just asked for.
    pub const fn new(limits: Limits) -> Self {
        Self::at(Phase::Creating, None, 0, limits)
    }

    /// A sandbox that ran when the daemon stopped and still runs.
    pub const fn adopted(span: Span, limits: Limits) -> Self {
        Self::at(Phase::Running, Some(span), 1, limits)
    }

    /// A sandbox that was paused when the daemon stopped.
    pub const fn paused(span: Span, limits: Limits) -> Self {
        Self::at(Phase::Paused, Some(span), 1, limits)
    }

    const fn at(phase: Phase, span: Option<Span>, run: u32, limits: Limits) -> Self {
        Self {
            phase,
            limits,
            span,
            run,
            died: false,
            attempts: 0,
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

    /// What bounds it.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Which run this is.
    pub const fn run(&self) -> u32 {
        self.run
    }

    /// Whether traffic reaches it.
    pub const fn serves(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Capturing) && !self.died
    }

    /// Whether an operation is under way that will end.
    pub const fn in_transition(&self) -> bool {
        matches!(
            self.phase,
            Phase::Creating
                | Phase::Capturing
                | Phase::RollingBack
                | Phase::Pausing
                | Phase::Resuming(_)
        )
    }

    /// Whether clients see it as paused (`Some(true)`), running, or not at all.
    pub const fn shown_paused(&self) -> Option<bool> {
        match self.phase {
            Phase::Running | Phase::Capturing | Phase::RollingBack | Phase::Pausing
                if !self.died =>
            {
                Some(false)
            }
            Phase::Paused | Phase::Resuming(_) => Some(true),
            _ => None,
        }
    }

    /// The end of a run that begins at a moment, to last so many seconds.
    pub fn end_of(&self, begin: Moment, seconds: u32) -> Moment {
        begin.plus_seconds(seconds.min(self.limits.longest))
    }

    /// Takes one event and says what to do.
    ///
    /// # Errors
    /// [`Refusal`] when the event changes nothing.
    pub fn step(&mut self, event: Event) -> Step {
        match event {
            Event::Booted(_)
            | Event::BootFailed
            | Event::Done(_)
            | Event::Lost
            | Event::Paused(_) => self.outcome(event),
            Event::Kill(why) => self.kill(why),
            Event::Stop => self.stop(),
            Event::Tick(now) => self.tick(now),
            Event::SetTimeout(now, seconds) => self.set_timeout(now, seconds),
            Event::Extend(now, seconds) => self.extend(now, seconds),
            Event::Capture => self.begin(Phase::Capturing, vec![]),
            Event::RollBack => self.begin(Phase::RollingBack, vec![Action::Cut]),
            Event::Pause => self.begin(Phase::Pausing, vec![Action::Cut]),
            Event::Resume(seconds) => self.resume(seconds),
            Event::MachineDied(run) => self.machine_died(run),
            Event::KillSent => self.kill_sent(),
            Event::Released => match self.phase {
                Phase::Ending(_) => {
                    self.phase = Phase::Gone;
                    Ok(vec![Action::Forget])
                }
                _ => Err(Refusal::OutOfPlace),
            },
        }
    }

    fn outcome(&mut self, event: Event) -> Step {
        match (self.phase, event) {
            (Phase::Killing { why, sent, .. }, _) if self.is_busy() => Ok(if sent {
                self.end(why)
            } else {
                self.phase = Phase::Killing {
                    why,
                    sent,
                    busy: false,
                };
                vec![]
            }),
            (Phase::Creating, Event::Booted(now)) => {
                Ok(self.run_begins(now, now, self.limits.timeout))
            }
            (Phase::Resuming(seconds), Event::Booted(now)) => {
                let started_at = self.span.map_or(now, |span| span.started_at);
                Ok(self.run_begins(started_at, now, seconds))
            }
            (Phase::Creating, Event::BootFailed) => Ok(self.end(Reason::BootFailed)),
            (Phase::Resuming(_), Event::BootFailed) => {
                self.phase = Phase::Paused;
                Ok(vec![])
            }
            (Phase::Capturing | Phase::RollingBack | Phase::Pausing, Event::Lost) => {
                Ok(self.end(Reason::Died))
            }
            (Phase::Capturing | Phase::RollingBack | Phase::Pausing, Event::Done(now)) => {
                Ok(self.goes_on(now))
            }
            (Phase::Pausing, Event::Paused(now)) => {
                self.phase = Phase::Paused;
                self.died = false;
                self.attempts = 0;
                if let Some(span) = &mut self.span {
                    span.end_at = now;
                }
                Ok(vec![Action::Unschedule])
            }
            _ => Err(Refusal::OutOfPlace),
        }
    }

    const fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Killing { busy: true, .. })
    }

    fn run_begins(&mut self, started_at: Moment, now: Moment, seconds: u32) -> Vec<Action> {
        let end_at = self.end_of(now, seconds);
        self.span = Some(Span {
            started_at,
            since: now,
            end_at,
        });
        self.phase = Phase::Running;
        self.run += 1;
        self.died = false;
        self.attempts = 0;
        vec![Action::Schedule(end_at)]
    }

    /// After an operation in place, or a pause that failed.
    fn goes_on(&mut self, now: Moment) -> Vec<Action> {
        if self.died {
            return self.end(Reason::Died);
        }
        let pausing = self.phase == Phase::Pausing;
        self.phase = Phase::Running;
        let Some(span) = self.span else { return vec![] };
        let pauses = matches!(self.limits.on_timeout, OnTimeout::Pause { .. });
        if !(pausing && pauses && span.end_at <= now) {
            return vec![Action::Schedule(span.end_at)];
        }
        self.attempts += 1;
        if self.attempts < PAUSE_ATTEMPTS {
            vec![Action::Wake(now.plus_seconds(PAUSE_RETRY))]
        } else {
            self.end_now(Reason::Expired)
        }
    }

    fn kill(&mut self, why: Reason) -> Step {
        match self.phase {
            Phase::Running | Phase::Paused => Ok(self.end_now(why)),
            _ if self.in_transition() => {
                self.phase = Phase::Killing {
                    why,
                    sent: false,
                    busy: true,
                };
                Ok(vec![Action::Abort, Action::Kill(why)])
            }
            _ => Err(Refusal::Gone),
        }
    }

    fn stop(&mut self) -> Step {
        match self.phase {
            Phase::Paused => Err(Refusal::Paused),
            // The one is about to be safe, and of the other everything is still there.
            Phase::Pausing => Err(Refusal::InTransition),
            Phase::Resuming(_) => Ok(vec![Action::Abort]),
            _ => self.kill(Reason::Shutdown),
        }
    }

    fn kill_sent(&mut self) -> Step {
        match self.phase {
            Phase::Killing {
                why, busy: false, ..
            } => Ok(self.end(why)),
            Phase::Killing {
                why, sent: false, ..
            } => {
                self.phase = Phase::Killing {
                    why,
                    sent: true,
                    busy: true,
                };
                Ok(vec![])
            }
            _ => Err(Refusal::OutOfPlace),
        }
    }

    /// No operation is under way.
    fn end_now(&mut self, why: Reason) -> Vec<Action> {
        self.phase = Phase::Killing {
            why,
            sent: false,
            busy: false,
        };
        vec![Action::Kill(why)]
    }

    fn end(&mut self, why: Reason) -> Vec<Action> {
        self.phase = Phase::Ending(why);
        vec![Action::Finish(why)]
    }

    fn machine_died(&mut self, run: u32) -> Step {
        if run != self.run {
            return Err(Refusal::OutOfPlace);
        }
        match self.phase {
            Phase::Running => Ok(self.end(Reason::Died)),
            Phase::Capturing | Phase::RollingBack | Phase::Pausing => {
                self.died = true;
                Ok(vec![Action::Cut])
            }
            _ => Err(Refusal::OutOfPlace),
        }
    }

    fn begin(&mut self, phase: Phase, actions: Vec<Action>) -> Step {
        match self.phase {
            Phase::Running => {
                self.phase = phase;
                Ok(actions)
            }
            Phase::Paused => Err(Refusal::Paused),
            _ => Err(self.refusal()),
        }
    }

    fn resume(&mut self, seconds: u32) -> Step {
        match self.phase {
            Phase::Paused => {
                self.phase = Phase::Resuming(seconds);
                Ok(vec![])
            }
            Phase::Running => Err(Refusal::Running),
            _ => Err(self.refusal()),
        }
    }

    fn refusal(&self) -> Refusal {
        match self.phase {
            Phase::Creating => Refusal::NotYetRunning,
            Phase::Killing { .. } => Refusal::BeingKilled,
            Phase::Paused => Refusal::Paused,
            Phase::Ending(_) | Phase::Gone => Refusal::Gone,
            _ => Refusal::InTransition,
        }
    }

    fn tick(&mut self, now: Moment) -> Step {
        match (self.phase, self.span) {
            (Phase::Running, Some(span)) if span.end_at > now => {
                Ok(vec![Action::Schedule(span.end_at)])
            }
            (Phase::Running, _) => Ok(self.expire()),
            _ => Err(self.refusal()),
        }
    }

    fn expire(&mut self) -> Vec<Action> {
        match self.limits.on_timeout {
            OnTimeout::Kill => self.end_now(Reason::Expired),
            OnTimeout::Pause { memory } => {
                self.phase = Phase::Pausing;
                vec![Action::Cut, Action::Pause { memory }]
            }
        }
    }

    fn set_timeout(&mut self, now: Moment, seconds: u32) -> Step {
        let span = self.movable()?;
        let end_at = now
            .plus_seconds(seconds)
            .min(span.since.plus_seconds(self.limits.longest));
        self.span = Some(Span { end_at, ..span });
        self.attempts = 0;
        if end_at <= now && self.phase == Phase::Running {
            return Ok(self.expire());
        }
        Ok(vec![Action::Schedule(end_at)])
    }

    fn extend(&mut self, now: Moment, seconds: u32) -> Step {
        let span = self.movable()?;
        let wanted = now
            .plus_seconds(seconds)
            .min(span.since.plus_seconds(self.limits.longest));
        if wanted <= span.end_at {
            return Ok(vec![]);
        }
        self.span = Some(Span {
            end_at: wanted,
            ..span
        });
        self.attempts = 0;
        Ok(vec![Action::Schedule(wanted)])
    }

    /// The span, while its end may be moved.
    fn movable(&self) -> Result<Span, Refusal> {
        let moves = matches!(
            self.phase,
            Phase::Running | Phase::Capturing | Phase::RollingBack
        );
        self.span
            .filter(|_| moves && !self.died)
            .ok_or_else(|| self.refusal())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
