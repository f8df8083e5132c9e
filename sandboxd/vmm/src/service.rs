//! What the control requests of a `microvm` process do.

use std::sync::Arc;

use tracing::{info, warn};

use crate::config::MachineConfig;
use crate::control::server::Service;
use crate::control::{
    Booted, ErrorCode, ExitReason, Hello, Op, PROTOCOL, Request, Response, State, Stats,
    Timestamps, Verdict, judge,
};
use crate::exit::{Exit, ExitCell};
use crate::machine::{BuildError, Machine, Options, build};
use crate::process::{Status, monotonic_ns};

/// The process's one machine and where it is in its life.
pub struct MachineService {
    id: String,
    options: Options,
    exit: Arc<ExitCell>,
    status: Status,
    state: State,
    machine: Option<Machine>,
    times: Timestamps,
}

impl MachineService {
    /// A service without a machine yet. `started_ns` is when the process began.
    pub fn new(
        id: String,
        options: Options,
        exit: Arc<ExitCell>,
        status: Status,
        started_ns: u64,
    ) -> Self {
        let times = Timestamps {
            process_started_ns: started_ns,
            ..Timestamps::default()
        };
        Self {
            id,
            options,
            exit,
            status,
            state: State::Idle,
            machine: None,
            times,
        }
    }

    /// Builds the machine and lets it run.
    ///
    /// # Errors
    /// When it cannot be built; the service is idle again then.
    pub fn boot(&mut self, config: &MachineConfig) -> Result<Booted, BuildError> {
        self.times.boot_started_ns = monotonic_ns();
        let machine = build(config, self.options, &self.exit)?;
        machine.resume();
        self.times.vcpus_running_ns = monotonic_ns();
        self.machine = Some(machine);
        self.state = State::Running;
        info!(
            vcpus = config.vcpus,
            memory_mib = config.memory_mib,
            "the machine runs"
        );
        Ok(Booted { times: self.times })
    }

    /// Puts the last serial output into its file and says why the machine ended; to be called before the end is announced.
    ///
    /// A kernel that panics before its driver for the panic port is there, or has none, ends like any reboot. Only its
    /// console tells the difference.
    pub fn conclude(&self, end: Exit) -> Exit {
        let Some(machine) = &self.machine else {
            return end;
        };
        machine.flush_serial();
        match (end.reason, machine.panic_line()) {
            (ExitReason::GuestReset, Some(detail)) => Exit {
                reason: ExitReason::GuestPanic,
                detail,
            },
            _ => end,
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            id: self.id.clone(),
            state: self.state(),
        }
    }

    fn stats(&self) -> Stats {
        let resident = self.status.resident();
        let since = self.times.vcpus_running_ns;
        let mut stats = Stats {
            state: self.state(),
            times: self.times,
            rss_kib: resident.total_kib,
            overhead_kib: resident.own_kib,
            ..Stats::default()
        };
        if let Some(machine) = &self.machine {
            stats.uptime_ms = monotonic_ns().saturating_sub(since) / 1_000_000;
            stats.memory_mib = machine.memory_mib();
            stats.vcpu_exits = machine.exits();
            stats.devices = machine.counters();
        }
        stats
    }

    fn state(&self) -> State {
        if self.exit.get().is_some() {
            State::Exited
        } else {
            self.state
        }
    }

    fn carry_out(&mut self, id: u64, op: Op) -> Response {
        match (op, &self.machine) {
            (Op::Hello, _) => Response::ok(id, &self.hello()),
            (Op::Stats, _) => Response::ok(id, &self.stats()),
            (Op::Kill, _) => {
                self.exit
                    .set(ExitReason::Killed, "a control request asked for it");
                Response::done(id)
            }
            (Op::Boot(config), None) => match self.boot(&config) {
                Ok(booted) => Response::ok(id, &booted),
                Err(error) => {
                    warn!(%error, "the machine could not be built");
                    let code = match error {
                        BuildError::Config(_) => ErrorCode::BadConfig,
                        _ => ErrorCode::BootFailed,
                    };
                    Response::error(Some(id), code, error.to_string())
                }
            },
            (Op::Pause, Some(machine)) => match machine.pause() {
                Ok(()) => {
                    self.state = State::Paused;
                    Response::done(id)
                }
                Err(error) => {
                    // The machine runs on, rather than standing still by half.
                    machine.resume();
                    Response::error(Some(id), ErrorCode::Timeout, error.to_string())
                }
            },
            (Op::Resume, Some(machine)) => {
                machine.resume();
                self.state = State::Running;
                Response::done(id)
            }
            (op, _) => refuse(id, &op, self.state()),
        }
    }
}

impl Service for MachineService {
    fn answer(&mut self, request: Request) -> Response {
        let Request { id, op } = request;
        match judge(self.state(), &op) {
            Verdict::Do => self.carry_out(id, op),
            Verdict::Already => Response::done(id),
            Verdict::Refuse => refuse(id, &op, self.state()),
            Verdict::Unsupported => {
                let message = format!("{} is reserved for a later version", op.name());
                Response::error(Some(id), ErrorCode::Unsupported, message)
            }
        }
    }
}

fn refuse(id: u64, op: &Op, state: State) -> Response {
    let message = format!(
        "{} is not possible while the machine is {}",
        op.name(),
        state.name()
    );
    Response::error(Some(id), ErrorCode::WrongState, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> (MachineService, Arc<ExitCell>) {
        let exit = Arc::new(ExitCell::new().unwrap());
        let status = Status::open().unwrap();
        let service =
            MachineService::new("t".into(), Options::default(), Arc::clone(&exit), status, 1);
        (service, exit)
    }

    fn code(response: Response) -> ErrorCode {
        response.error.unwrap().code
    }

    #[test]
    fn an_idle_process_answers_about_itself() {
        let (mut service, _) = service();
        let hello = service.answer(Request {
            id: 5,
            op: Op::Hello,
        });
        let hello: Hello = serde_json::from_value(hello.ok.unwrap()).unwrap();
        assert_eq!((hello.state, hello.pid), (State::Idle, std::process::id()));
        let stats = service.answer(Request {
            id: 6,
            op: Op::Stats,
        });
        let stats: Stats = serde_json::from_value(stats.ok.unwrap()).unwrap();
        assert_eq!((stats.uptime_ms, stats.memory_mib), (0, 0));
        assert!(stats.overhead_kib > 0);
    }

    #[test]
    fn what_needs_a_machine_is_refused_without_one() {
        let (mut service, _) = service();
        for op in [Op::Pause, Op::Resume] {
            assert_eq!(
                code(service.answer(Request { id: 1, op })),
                ErrorCode::WrongState
            );
        }
        for op in [Op::Snapshot, Op::Restore] {
            assert_eq!(
                code(service.answer(Request { id: 1, op })),
                ErrorCode::Unsupported
            );
        }
    }

    #[test]
    fn a_bad_configuration_leaves_the_process_idle() {
        let (mut service, _) = service();
        let boot = |text: &str| Op::Boot(serde_json::from_str(text).unwrap());
        let zero = boot(r#"{"vcpus":0,"memory_mib":64,"kernel":"k"}"#);
        let answer = service.answer(Request { id: 1, op: zero });
        assert_eq!(code(answer), ErrorCode::BadConfig);
        let hello = service
            .answer(Request {
                id: 2,
                op: Op::Hello,
            })
            .ok
            .unwrap();
        assert_eq!(hello["state"], "idle");
    }

    #[test]
    fn kill_answers_and_ends() {
        let (mut service, exit) = service();
        let answer = service.answer(Request {
            id: 3,
            op: Op::Kill,
        });
        assert_eq!(answer, Response::done(3));
        assert_eq!(exit.get().unwrap().reason, ExitReason::Killed);
        let hello = service
            .answer(Request {
                id: 2,
                op: Op::Hello,
            })
            .ok
            .unwrap();
        assert_eq!(hello["state"], "exited");
    }
}
