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

pub use super::terms::{Action, Event, Limits, OnTimeout, Phase, Reason, Refusal, Span};

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
    /// When the next is tried.
    retry_at: Option<Moment>,
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
            retry_at: None,
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
            Phase::Running | Phase::Capturing | Phase::RollingBack if !self.died => Some(false),
            // The machine of one that is being paused is ended in the end.
            Phase::Pausing => Some(false),
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
                self.forgive();
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
        self.forgive();
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
        if pausing && pauses && span.end_at <= now {
            self.attempts += 1;
            self.retry_at = Some(now.plus_seconds(PAUSE_RETRY));
        }
        match self.retry_at {
            None => vec![Action::Schedule(span.end_at)],
            Some(_) if self.attempts >= PAUSE_ATTEMPTS => self.end_now(Reason::Expired),
            Some(retry_at) => vec![Action::Wake(retry_at)],
        }
    }

    /// There is a new deadline, or none: failed pauses are forgotten.
    fn forgive(&mut self) {
        self.attempts = 0;
        self.retry_at = None;
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
        if end_at <= now && self.in_transition() {
            // Its end must not be called off by whoever moves the deadline next.
            return Err(Refusal::InTransition);
        }
        self.span = Some(Span { end_at, ..span });
        self.forgive();
        if end_at <= now {
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
        self.forgive();
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
