//! What the control requests of a `microvm` process do.

use std::sync::Arc;

use tracing::{info, warn};

use crate::config::MachineConfig;
use crate::control::server::Service;
use crate::control::{
    Booted, ErrorCode, ExitReason, Hello, Op, PROTOCOL, Ready, Recorded, Request, Response,
    RestoreArgs, Restored, RollbackArgs, SnapshotArgs, StageArgs, State, Stats, Timestamps,
    Verdict, judge,
};
use crate::exit::{Exit, ExitCell};
use crate::machine::{
    BuildError, DeviceError, Machine, Options, Order, Prepared, RollbackError, Shape, build, fits,
    plan, restore, stage, unstage,
};
use crate::process::{Status, monotonic_ns};
use crate::snapshot::stages::Stopwatch;
use crate::snapshot::{Kept, Opened};

/// The process's one machine and where it is in its life.
pub struct MachineService {
    id: String,
    options: Options,
    exit: Arc<ExitCell>,
    status: Status,
    state: State,
    prepared: Option<Box<Prepared>>,
    /// The snapshot whose memory lies under what is prepared.
    staged: Option<Box<Kept>>,
    machine: Option<Box<Machine>>,
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
            prepared: None,
            staged: None,
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
        self.machine = Some(Box::new(machine));
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
            stats.overhead_kib = resident.total_kib.saturating_sub(machine.resident_kib());
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

    fn prepare(&mut self, id: u64, shape: Shape) -> Response {
        let mut watch = Stopwatch::start();
        let prepared = Prepared::new(shape, self.options, &self.exit);
        watch.lap("prepare");
        let prepared = prepared.and_then(|mut prepared| {
            prepared.restrict()?;
            Ok(prepared)
        });
        watch.lap("filter");
        match prepared {
            Ok(prepared) => {
                self.prepared = Some(Box::new(prepared));
                self.state = State::Prepared;
                let stages = watch.finish();
                Response::ok(id, &Ready { stages })
            }
            Err(error) => refuse_build(id, &error, ErrorCode::BootFailed),
        }
    }

    fn stage(&mut self, id: u64, args: &StageArgs) -> Response {
        let mut watch = Stopwatch::start();
        match self.try_stage(args, &mut watch) {
            Ok(()) => {
                let stages = watch.finish();
                Response::ok(id, &Ready { stages })
            }
            Err(error) => {
                if matches!(error, BuildError::Lay(_)) {
                    let words = format!("the memory of the prepared machine is undefined: {error}");
                    self.exit.set(ExitReason::Error, &words);
                }
                refuse_build(id, &error, ErrorCode::RestoreFailed)
            }
        }
    }

    fn try_stage(&mut self, args: &StageArgs, watch: &mut Stopwatch) -> Result<(), BuildError> {
        let Some(prepared) = &self.prepared else {
            return Err(BuildError::Lay(std::io::ErrorKind::NotFound.into()));
        };
        let kept = Kept::open(&args.dir)?;
        fits(prepared, kept.opened())?;
        watch.lap("open");
        if self.staged.take().is_some() {
            unstage(prepared)?;
            watch.lap("blank");
        }
        stage(prepared, kept.opened(), watch)?;
        self.staged = Some(Box::new(kept));
        Ok(())
    }

    fn restore(&mut self, id: u64, args: &RestoreArgs) -> Response {
        self.times.boot_started_ns = monotonic_ns();
        let mut watch = Stopwatch::start();
        match self.try_restore(args, &mut watch) {
            Ok((machine, name)) => {
                self.machine = Some(Box::new(machine));
                self.state = State::Paused;
                if let Some(id) = &args.id {
                    self.id.clone_from(id);
                }
                self.resume_if(args.resume);
                watch.lap("resume");
                self.restored(id, name, watch)
            }
            Err(error) => {
                if self.state == State::Idle {
                    self.prepared = None;
                } else if self.prepared.is_none() {
                    // What was prepared is used up, and this process may not prepare again.
                    let words = format!("the prepared machine could not be restored: {error}");
                    self.exit.set(ExitReason::Error, &words);
                }
                refuse_build(id, &error, ErrorCode::RestoreFailed)
            }
        }
    }

    /// A snapshot or an argument that is refused leaves what is prepared for another restore.
    fn try_restore(
        &mut self,
        args: &RestoreArgs,
        watch: &mut Stopwatch,
    ) -> Result<(Machine, String), BuildError> {
        let reuse = |staged: &Kept| !args.record && staged.is_in(&args.dir);
        let reuse = self.staged.as_deref().is_some_and(reuse);
        let found = match reuse {
            true => None,
            false => Some(Opened::open(&args.dir)?),
        };
        let none = || BuildError::Lay(std::io::ErrorKind::NotFound.into());
        let opened = found.as_ref().or(self.staged.as_deref().map(Kept::opened));
        let opened = opened.ok_or_else(none)?;
        watch.lap("open");
        if args.verify {
            opened.verify_memory()?;
            watch.lap("verify");
        }
        let config = plan(opened, args)?;
        if self.prepared.is_none() {
            let shape = Shape::of(&opened.manifest.machine);
            let prepared = Prepared::new(shape, self.options, &self.exit)?;
            self.prepared = Some(Box::new(prepared));
            watch.lap("prepare");
        }
        if let Some(prepared) = &self.prepared {
            fits(prepared, opened)?;
        }
        // Nothing is refused from here on.
        let staged = self.staged.take();
        let prepared = self.prepared.take().ok_or_else(none)?;
        if staged.is_some() && !reuse {
            unstage(&prepared)?;
            watch.lap("blank");
        }
        let order = match (reuse, args.record) {
            (true, _) => Order::Staged,
            (false, true) => Order::Recorded,
            (false, false) => Order::Whole,
        };
        let opened = found.or(staged.map(|staged| staged.into_opened()));
        let opened = opened.ok_or_else(none)?;
        let machine = restore(*prepared, &opened, config, order, watch)?;
        Ok((machine, opened.manifest.id))
    }

    fn roll_back(&mut self, id: u64, args: &RollbackArgs) -> Response {
        let mut watch = Stopwatch::start();
        let opened = match Opened::open(&args.dir) {
            Ok(opened) => opened,
            Err(error) => return refuse_build(id, &error.into(), ErrorCode::RestoreFailed),
        };
        let Some(machine) = &mut self.machine else {
            return refuse(id, &Op::Rollback(Box::new(args.clone())), self.state());
        };
        match machine.roll_back(&opened, &mut watch) {
            Ok(()) => {
                self.state = State::Paused;
                self.resume_if(args.resume);
                watch.lap("resume");
                self.restored(id, opened.manifest.id, watch)
            }
            Err(error) => {
                warn!(%error, "the machine did not go back");
                match error {
                    RollbackError::Refused(error) => {
                        refuse_build(id, &error, ErrorCode::RestoreFailed)
                    }
                    RollbackError::Pause(error) => {
                        self.resume_if(self.state == State::Running);
                        Response::error(Some(id), ErrorCode::Timeout, error.to_string())
                    }
                    RollbackError::Lost(_) => {
                        self.exit.set(ExitReason::Error, &error.to_string());
                        Response::error(Some(id), ErrorCode::RestoreFailed, error.to_string())
                    }
                }
            }
        }
    }

    fn snapshot(&mut self, id: u64, args: &SnapshotArgs) -> Response {
        let Some(machine) = &mut self.machine else {
            return refuse(id, &Op::Snapshot(Box::new(args.clone())), self.state());
        };
        match machine.snapshot(args) {
            Ok(snapshotted) => Response::ok(id, &snapshotted),
            Err(error) => {
                warn!(%error, "no snapshot was written");
                Response::error(Some(id), ErrorCode::SnapshotFailed, error.to_string())
            }
        }
    }

    fn record(&mut self, id: u64) -> Response {
        let Some(machine) = &mut self.machine else {
            return refuse(id, &Op::Record, self.state());
        };
        match machine.save_working_set() {
            Ok((read_bytes, written_bytes)) => {
                let recorded = Recorded {
                    read_bytes,
                    written_bytes,
                };
                Response::ok(id, &recorded)
            }
            Err(error) => Response::error(Some(id), ErrorCode::SnapshotFailed, error.to_string()),
        }
    }

    fn resume_if(&mut self, resume: bool) {
        if let Some(machine) = &self.machine
            && resume
        {
            machine.resume();
            self.state = State::Running;
            self.times.vcpus_running_ns = monotonic_ns();
        }
    }

    fn restored(&self, id: u64, name: String, watch: Stopwatch) -> Response {
        let stages = watch.finish();
        info!(
            snapshot = name,
            ns = stages.total_ns(),
            "the machine goes on"
        );
        let restored = Restored {
            id: name,
            times: self.times,
            stages,
        };
        Response::ok(id, &restored)
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
                Err(error) => refuse_build(id, &error, ErrorCode::BootFailed),
            },
            (Op::Prepare(shape), None) => self.prepare(id, *shape),
            (Op::Stage(args), None) => self.stage(id, &args),
            (Op::Restore(args), None) => self.restore(id, &args),
            (Op::Snapshot(args), Some(_)) => self.snapshot(id, &args),
            (Op::Record, Some(_)) => self.record(id),
            (Op::Rollback(args), Some(_)) => self.roll_back(id, &args),
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
        }
    }

    fn starter_left(&mut self) {
        if self.machine.is_none() {
            let words = "whoever started the process left before there was a machine";
            self.exit.set(ExitReason::Killed, words);
        }
    }
}

/// The answer when no machine came out of a request.
fn refuse_build(id: u64, error: &BuildError, code: ErrorCode) -> Response {
    warn!(%error, "there is no machine");
    let code = match error {
        BuildError::Config(_)
        | BuildError::MissingOverride(_)
        | BuildError::UnusedOverride(_)
        | BuildError::OtherShape { .. } => ErrorCode::BadConfig,
        BuildError::Snapshot(_) | BuildError::Device(DeviceError::Snapshot(_)) => {
            ErrorCode::BadSnapshot
        }
        _ => code,
    };
    Response::error(Some(id), code, error.to_string())
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
        let asked = |op: &str| {
            let line = format!(r#"{{"v":1,"id":1,"op":"{op}","args":{{"dir":"/nonexistent"}}}}"#);
            Request::parse(line.as_bytes()).unwrap()
        };
        for op in ["snapshot", "rollback"] {
            assert_eq!(code(service.answer(asked(op))), ErrorCode::WrongState);
        }
        let missing = service.answer(asked("restore")).error.unwrap();
        assert_eq!(missing.code, ErrorCode::BadSnapshot);
        assert!(
            missing.message.contains("holds no snapshot"),
            "{}",
            missing.message
        );
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
