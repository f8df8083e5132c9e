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
    /// Everything that needs no contents is built.
    Prepared,
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
            State::Prepared => "prepared",
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
}

/// Judges `op` in `state`.
pub fn judge(state: State, op: &Op) -> Verdict {
    match (op, state) {
        (Op::Hello | Op::Stats | Op::Kill, _)
        | (Op::Boot(_) | Op::Prepare(_), State::Idle)
        | (Op::Stage(_), State::Prepared)
        | (Op::Restore(_), State::Idle | State::Prepared)
        | (Op::Pause, State::Running)
        | (Op::Snapshot(_) | Op::Resume, State::Paused)
        | (Op::Rollback(_) | Op::Record, State::Running | State::Paused) => Verdict::Do,
        (Op::Pause, State::Paused) | (Op::Resume, State::Running) => Verdict::Already,
        _ => Verdict::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        use State::{Exited, Idle, Paused, Prepared, Running};
        use Verdict::{Already, Do, Refuse};
        let states = [Idle, Prepared, Running, Paused, Exited];
        let row = |op: Op| states.map(|state| judge(state, &op));
        let parsed = |op: &str, args: &str| {
            let line = format!(r#"{{"v":1,"id":1,"op":"{op}","args":{args}}}"#);
            row(crate::control::Request::parse(line.as_bytes()).unwrap().op)
        };
        assert_eq!(row(Op::Hello), [Do; 5]);
        assert_eq!(row(Op::Stats), [Do; 5]);
        assert_eq!(row(Op::Kill), [Do; 5]);
        assert_eq!(row(Op::Pause), [Refuse, Refuse, Do, Already, Refuse]);
        assert_eq!(row(Op::Resume), [Refuse, Refuse, Already, Do, Refuse]);
        assert_eq!(row(Op::Record), [Refuse, Refuse, Do, Do, Refuse]);
        let boot = r#"{"vcpus":1,"memory_mib":64,"kernel":"k"}"#;
        assert_eq!(parsed("boot", boot), [Do, Refuse, Refuse, Refuse, Refuse]);
        let shape = r#"{"vcpus":1,"memory_mib":64}"#;
        assert_eq!(
            parsed("prepare", shape),
            [Do, Refuse, Refuse, Refuse, Refuse]
        );
        let dir = r#"{"dir":"/d"}"#;
        assert_eq!(parsed("restore", dir), [Do, Do, Refuse, Refuse, Refuse]);
        assert_eq!(parsed("stage", dir), [Refuse, Do, Refuse, Refuse, Refuse]);
        assert_eq!(
            parsed("snapshot", dir),
            [Refuse, Refuse, Refuse, Do, Refuse]
        );
        assert_eq!(parsed("rollback", dir), [Refuse, Refuse, Do, Do, Refuse]);
    }
}
