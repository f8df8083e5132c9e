//! The lab agent: runs inside of the lab and carries out what [`super::client`] asks for.
//!
//! A thread per connection. A command ([`LocalCommand`]) ends with its first process, or when
//! the connection breaks.

use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ChildStdin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use rustix::time::{ClockId, Timespec};

use super::wire::{self, Kind, Op, Reply, Request, WINDOW};
use crate::exec::local::{Group, LocalCommand};
use crate::exec::{CommandLine, Output};

/// The latest time that a client gave, in nanoseconds since the Unix epoch.
static LATEST_NS: AtomicU64 = AtomicU64::new(0);

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
        Op::Pulse {} => {
            wire::write_line(&mut writer, &ok())?;
            // The interrupt that brought a byte was its purpose.
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
        }
        Op::Shutdown {} => {
            wire::write_line(&mut writer, &ok())?;
            power_off();
        }
        Op::Exec(command) => exec(&command, reader, writer)?,
    }
    Ok(())
}

/// Carries a command's streams until it has ended and its output has been sent.
fn exec(line: &CommandLine, reader: BufReader<TcpStream>, writer: TcpStream) -> Result<()> {
    let shared = Arc::new(Mutex::new(writer));
    let sink = |kind| FrameWriter {
        kind,
        writer: Arc::clone(&shared),
    };
    let output = Output {
        stdout: Box::new(sink(Kind::Stdout)),
        stderr: Box::new(sink(Kind::Stderr)),
    };
    // Held until the answer is out: frames come after it.
    let mut writer = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = match LocalCommand::spawn(line, output, Signal::KILL) {
        Ok(command) => command,
        Err(error) => {
            return Ok(wire::write_line(
                &mut *writer,
                &Reply::Error(format!("{error:#}")),
            )?);
        }
    };
    wire::write_line(&mut *writer, &ok())?;
    drop(writer);
    let (stdin, group) = (command.take_stdin(), command.group());
    let acknowledge = Arc::clone(&shared);
    std::thread::spawn(move || obey(reader, stdin, acknowledge, &group));

    let exit = loop {
        if let Some(exit) = command.wait_for(Duration::from_secs(3600))? {
            break exit;
        }
    };
    let mut writer = shared.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Sets the clock, unless a later time was given before: connections made while the lab booted arrive in any order.
fn set_clock(unix_time_ns: u64) {
    if LATEST_NS.fetch_max(unix_time_ns, Ordering::SeqCst) >= unix_time_ns {
        return;
    }
    let time = Timespec {
        tv_sec: i64::try_from(unix_time_ns / 1_000_000_000).unwrap_or(0),
        tv_nsec: i64::try_from(unix_time_ns % 1_000_000_000).unwrap_or(0),
    };
    if let Err(error) = rustix::time::clock_settime(ClockId::Realtime, time) {
        eprintln!("lab agent: could not set the clock: {error}");
    }
}
