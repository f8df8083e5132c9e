//! The terms in which a life is told: phases, events, actions, refusals. What they mean for each other is in
//! [`state`](super::state).

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
    /// Serves, while a snapshot of it is taken or its network options are replaced.
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
    /// A snapshot is to be taken in place, or the network options are to be replaced.
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
