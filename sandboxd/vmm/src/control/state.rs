//! Which operation is allowed in which state, apart from any lock or I/O.

use serde::{Deserialize, Serialize};

use super::Op;

/// Where a machine is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is built.
    #[default]
    Idle,
    /// The virtual CPUs run.
    Running,
    /// The virtual CPUs stand still.
    Paused,
    /// The machine has come to its end; the process is about to.
    Exited,
}

impl State {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Running => "running",
            State::Paused => "paused",
            State::Exited => "exited",
        }
    }
}

/// What to do about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Carry it out.
    Do,
    /// It is so already: answer as if it had been carried out.
    Already,
    /// Refuse it: the state does not allow it.
    Refuse,
    /// Refuse it: it is reserved for a later version.
    Unsupported,
}

/// Judges `op` in `state`.
pub fn judge(state: State, op: &Op) -> Verdict {
    match (op, state) {
        (Op::Snapshot | Op::Restore, _) => Verdict::Unsupported,
        (Op::Hello | Op::Stats | Op::Kill, _)
        | (Op::Boot(_), State::Idle)
        | (Op::Pause, State::Running)
        | (Op::Resume, State::Paused) => Verdict::Do,
        (Op::Pause, State::Paused) | (Op::Resume, State::Running) => Verdict::Already,
        (Op::Boot(_) | Op::Pause | Op::Resume, _) => Verdict::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        use State::{Exited, Idle, Paused, Running};
        use Verdict::{Already, Do, Refuse, Unsupported};
        let states = [Idle, Running, Paused, Exited];
        let row = |op: Op| states.map(|state| judge(state, &op));
        assert_eq!(row(Op::Hello), [Do; 4]);
        assert_eq!(row(Op::Stats), [Do; 4]);
        assert_eq!(row(Op::Kill), [Do; 4]);
        assert_eq!(row(Op::Pause), [Refuse, Do, Already, Refuse]);
        assert_eq!(row(Op::Resume), [Refuse, Already, Do, Refuse]);
        assert_eq!(row(Op::Snapshot), [Unsupported; 4]);
        assert_eq!(row(Op::Restore), [Unsupported; 4]);
        let config = serde_json::from_str(r#"{"vcpus":1,"memory_mib":64,"kernel":"k"}"#).unwrap();
        assert_eq!(
            row(Op::Boot(Box::new(config))),
            [Do, Refuse, Refuse, Refuse]
        );
    }
}
