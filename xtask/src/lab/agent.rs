//! The lab agent: runs inside of the lab and carries out what [`super::client`] asks for.
//!
//! A thread per connection. A command is a process group of its own; the group ends with its
//! first process, or when the connection breaks. What must outlive its command starts itself
//! with `setsid`.

use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use rustix::time::{ClockId, Timespec};

use super::wire::{self, Kind, Op, Reply, Request, WINDOW};
use crate::exec::{CommandLine, Exit, pump};

/// How long output is still taken after a command ended, from processes that left its group.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// Serves connections until the lab goes down. `power_off` is called for a shutdown request.
///
/// # Errors
/// When the listener breaks.
pub fn serve(listener: &TcpListener, token: &str, power_off: fn()) -> Result<()> {
    let token: Arc<str> = token.into();
    loop {
        let (stream, _) = listener
            .accept()
            .context("the lab agent's listener broke")?;
        let token = Arc::clone(&token);
        std::thread::spawn(move || {
            if let Err(error) = connection(stream, &token, power_off) {
                eprintln!("lab agent: {error:#}");
            }
        });
    }
}

fn connection(stream: TcpStream, token: &str, power_off: fn()) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let request: Request = wire::read_line(&mut reader)?;
    if request.token != token {
        wire::write_line(&mut writer, &Reply::Error("wrong token".into()))?;
        bail!("a connection with a wrong token was refused");
    }
    match request.op {
        Op::Hello { unix_time_ns } => {
            set_clock(unix_time_ns);
            wire::write_line(&mut writer, &ok())?;
        }
        Op::Shutdown {} => {
            wire::write_line(&mut writer, &ok())?;
            power_off();
        }
        Op::Exec(command) => match start(&command) {
            Err(error) => wire::write_line(&mut writer, &Reply::Error(format!("{error:#}")))?,
            Ok(child) => {
                wire::write_line(&mut writer, &ok())?;
                attend(child, reader, writer)?;
            }
        },
    }
    Ok(())
}

fn start(line: &CommandLine) -> Result<Child> {
    let (program, args) = line.argv.split_first().context("an empty command")?;
    Command::new(program)
        .args(args)
        .env_clear()
        .envs(&line.env)
        .current_dir(&line.cwd)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start '{program}' in {}", line.cwd.display()))
}

/// A running command's process group. Once its first process is reaped the number may name
/// another group, so it is only used under the lock and while `alive`.
#[derive(Clone)]
struct Group {
    id: Pid,
    alive: Arc<Mutex<bool>>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if *self.alive.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = kill_process_group(self.id, signal);
        }
    }

    /// Waits for the first process, ends the rest, reaps.
    fn wait(&self, child: &mut Child) -> std::io::Result<Exit> {
        while waitid(
            WaitId::Pid(self.id),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        )
        .is_err_and(|error| error == rustix::io::Errno::INTR)
        {}
        self.signal(Signal::KILL);
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = false;
        child.wait().map(Exit::from)
    }
}

/// Carries streams until the command has ended and its output has been sent.
fn attend(mut child: Child, reader: BufReader<TcpStream>, writer: TcpStream) -> Result<()> {
    let group = Group {
        id: Pid::from_child(&child),
        alive: Arc::new(Mutex::new(true)),
    };
    let writer = Arc::new(Mutex::new(writer));
    let (sending, all_sent) = mpsc::channel::<()>();
    let streams: [(Kind, Option<Box<dyn std::io::Read + Send>>); 2] = [
        (Kind::Stdout, child.stdout.take().map(|s| Box::new(s) as _)),
        (Kind::Stderr, child.stderr.take().map(|s| Box::new(s) as _)),
    ];
    for (kind, stream) in streams {
        let to = FrameWriter {
            kind,
            writer: Arc::clone(&writer),
        };
        let sending = sending.clone();
        std::thread::spawn(move || {
            let _sending = sending;
            if let Some(stream) = stream {
                pump(stream, to);
            }
        });
    }
    drop(sending);
    let stdin = child.stdin.take();
    let (obeying, acknowledge) = (group.clone(), Arc::clone(&writer));
    std::thread::spawn(move || obey(reader, stdin, acknowledge, &obeying));

    let exit = group.wait(&mut child)?;
    let _ = all_sent.recv_timeout(LAST_OUTPUT);
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = wire::write_frame(&mut *writer, Kind::Exit, &serde_json::to_vec(&exit)?);
    let _ = writer.shutdown(Shutdown::Both);
    Ok(())
}

/// Takes input and signals; when the connection ends, so does the command.
fn obey(
    mut reader: BufReader<TcpStream>,
    stdin: Option<ChildStdin>,
    writer: Arc<Mutex<TcpStream>>,
    group: &Group,
) {
    let queued = Arc::new(AtomicUsize::new(0));
    let (input, chunks) = mpsc::channel::<Vec<u8>>();
    let mut input = Some(input);
    if let Some(stdin) = stdin {
        let queued = Arc::clone(&queued);
        std::thread::spawn(move || feed(stdin, &chunks, &queued, &writer));
    }
    while let Ok(Some((kind, payload))) = wire::read_frame(&mut reader) {
        match kind {
            Kind::Stdin if payload.is_empty() => input = None,
            Kind::Stdin => {
                if queued.fetch_add(payload.len(), Ordering::SeqCst) + payload.len() > WINDOW {
                    break;
                }
                // Sending fails when the command closed its input: nobody to tell.
                let _ = input.as_ref().map(|to| to.send(payload));
            }
            Kind::Signal => {
                let number = payload.first().copied().map(i32::from);
                if let Some(signal) = number.and_then(Signal::from_named_raw) {
                    group.signal(signal);
                }
            }
            Kind::Stdout | Kind::Stderr | Kind::Exit | Kind::Taken => break,
        }
    }
    group.signal(Signal::KILL);
}

fn feed(
    mut stdin: ChildStdin,
    chunks: &mpsc::Receiver<Vec<u8>>,
    queued: &AtomicUsize,
    writer: &Mutex<TcpStream>,
) {
    for chunk in chunks {
        // After a failure input is still taken, so that the client doesn't wait forever.
        let _ = stdin.write_all(&chunk);
        queued.fetch_sub(chunk.len(), Ordering::SeqCst);
        let taken = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        if wire::write_frame(&mut *writer, Kind::Taken, &taken.to_be_bytes()).is_err() {
            break;
        }
    }
}

struct FrameWriter {
    kind: Kind,
    writer: Arc<Mutex<TcpStream>>,
}

impl Write for FrameWriter {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        wire::write_frame(&mut *writer, self.kind, data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn ok() -> Reply {
    let time = rustix::time::clock_gettime(ClockId::Boottime);
    Reply::Ok {
        uptime: Duration::new(time.tv_sec.unsigned_abs(), nanos(time)).as_secs_f64(),
    }
}

fn nanos(time: Timespec) -> u32 {
    u32::try_from(time.tv_nsec).unwrap_or(0)
}

fn set_clock(unix_time_ns: u64) {
    let time = Timespec {
        tv_sec: i64::try_from(unix_time_ns / 1_000_000_000).unwrap_or(0),
        tv_nsec: i64::try_from(unix_time_ns % 1_000_000_000).unwrap_or(0),
    };
    if let Err(error) = rustix::time::clock_settime(ClockId::Realtime, time) {
        eprintln!("lab agent: could not set the clock: {error}");
    }
}
