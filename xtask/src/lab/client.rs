//! The machine's side of the lab agent's protocol ([`super::wire`]).

use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use super::wire::{self, Kind, Op, Reply, Request, WINDOW};
use crate::exec::local::told;
use crate::exec::{CommandLine, Exit, Output};

/// How late the lab's clock may be set.
const CLOCK_ERROR: Duration = Duration::from_millis(50);

/// How often to try for that; on a busy machine the last one has to do.
const CLOCK_ATTEMPTS: u32 = 10;

/// Where a lab's agent is reached, and its token.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    token: String,
}

impl Client {
    /// A client; connects with each operation.
    #[must_use]
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self {
            address,
            token: token.to_owned(),
        }
    }

    /// Asks whether the agent is up, sets the lab's clock, and gives the lab's uptime.
    ///
    /// QEMU takes connections while the lab still boots, so the first question can wait there and
    /// carry a time long past. It is asked again until an answer comes at once.
    ///
    /// # Errors
    /// When it doesn't answer within `timeout`.
    pub fn hello(&self, timeout: Duration) -> Result<Duration> {
        let mut uptime = self.set_clock(timeout)?;
        for _ in 1..CLOCK_ATTEMPTS {
            let asked = Instant::now();
            uptime = self.set_clock(timeout)?;
            if asked.elapsed() < CLOCK_ERROR {
                break;
            }
        }
        Ok(uptime)
    }

    fn set_clock(&self, timeout: Duration) -> Result<Duration> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let unix_time_ns = u64::try_from(now.as_nanos())?;
        let (_, uptime) = self.request(Op::Hello { unix_time_ns }, Some(timeout))?;
        Ok(uptime)
    }

    /// A connection whose bytes wake the lab ([`super::pulse`]).
    ///
    /// # Errors
    /// When the agent doesn't answer within `timeout`.
    pub fn pulse(&self, timeout: Duration) -> Result<TcpStream> {
        let (stream, _) = self.request(Op::Pulse {}, Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(stream)
    }

    /// Powers the lab off.
    ///
    /// # Errors
    /// When the agent doesn't answer within `timeout`.
    pub fn shutdown(&self, timeout: Duration) -> Result<()> {
        self.request(Op::Shutdown {}, Some(timeout)).map(|_| ())
    }

    /// Starts a command. Its input is open until [`RemoteCommand::close_stdin`].
    ///
    /// # Errors
    /// When the agent can't be reached or can't start it.
    pub fn spawn(&self, command: CommandLine, output: Output) -> Result<RemoteCommand> {
        let (stream, _) = self.request(Op::Exec(command), None)?;
        let from_agent = stream.try_clone()?;
        let (send, ended) = mpsc::channel();
        let window = Window {
            room: Mutex::new(Some(WINDOW)),
            changed: Condvar::new(),
        };
        let input = RemoteInput {
            stream: Arc::new(stream),
            writing: Arc::default(),
            window: Arc::new(window),
        };
        let window = Arc::clone(&input.window);
        std::thread::spawn(move || {
            let exit = receive(from_agent, output, &window);
            window.change(|_| None);
            let _ = send.send(exit);
        });
        Ok(RemoteCommand { input, ended })
    }

    fn request(&self, op: Op, timeout: Option<Duration>) -> Result<(TcpStream, Duration)> {
        let wait = timeout.unwrap_or(Duration::from_secs(10));
        let mut stream = TcpStream::connect_timeout(&self.address, wait)
            .with_context(|| format!("no lab answers on {}", self.address))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(timeout)?;
        wire::write_line(
            &mut stream,
            &Request {
                token: self.token.clone(),
                op,
            },
        )?;
        // Byte by byte: what follows the line belongs to the frames.
        let mut one = BufReader::with_capacity(1, &stream);
        match wire::read_line(&mut one).context("the lab agent did not answer")? {
            Reply::Ok { uptime } => Ok((stream, Duration::from_secs_f64(uptime.max(0.0)))),
            Reply::Error(why) => bail!("the lab refused: {why}"),
        }
    }
}

/// The way into a command running in the lab. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RemoteInput {
    stream: Arc<TcpStream>,
    writing: Arc<Mutex<()>>,
    window: Arc<Window>,
}

/// How much input may still be sent; `None` once the command has ended.
#[derive(Debug)]
struct Window {
    room: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Window {
    /// Waits until `size` bytes may be sent; `false` when the command has ended.
    fn take(&self, size: usize) -> bool {
        let room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |room: &mut Option<usize>| room.is_some_and(|have| have < size);
        let mut room = self
            .changed
            .wait_while(room, wait)
            .unwrap_or_else(PoisonError::into_inner);
        *room = room.map(|have| have.saturating_sub(size));
        room.is_some()
    }

    fn change(&self, change: impl FnOnce(Option<usize>) -> Option<usize>) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        *room = change(*room);
        self.changed.notify_all();
    }
}

impl RemoteInput {
    /// Sends a signal to the command's process group.
    pub fn signal(&self, signal: i32) {
        if let Ok(number) = u8::try_from(signal) {
            let _ = self.send(Kind::Signal, &[number]);
        }
    }

    /// Passes input on, waiting while the command doesn't take it; `false` when it is gone.
    #[must_use]
    pub fn write(&self, data: &[u8]) -> bool {
        data.chunks(WINDOW / 4)
            .all(|part| self.window.take(part.len()) && self.send(Kind::Stdin, part).is_ok())
    }

    /// Ends the command's input.
    pub fn close(&self) {
        let _ = self.send(Kind::Stdin, &[]);
    }

    /// Ends the command: the agent kills its process group.
    pub fn kill(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn send(&self, kind: Kind, payload: &[u8]) -> std::io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        wire::write_frame(&mut &*self.stream, kind, payload)
    }
}

/// A command running in the lab. Dropped, it is killed.
#[derive(Debug)]
pub struct RemoteCommand {
    input: RemoteInput,
    ended: mpsc::Receiver<Result<Exit>>,
}

impl RemoteCommand {
    /// Its input and signals.
    #[must_use]
    pub fn input(&self) -> RemoteInput {
        self.input.clone()
    }

    /// How it ended; `None` when it hasn't within `timeout`.
    ///
    /// # Errors
    /// When the connection broke before.
    pub fn wait_for(&self, timeout: Duration) -> Result<Option<Exit>> {
        told(&self.ended, timeout)
    }
}

impl Drop for RemoteCommand {
    fn drop(&mut self) {
        self.input.kill();
    }
}

fn receive(stream: TcpStream, mut output: Output, window: &Window) -> Result<Exit> {
    let mut reader = BufReader::new(stream);
    loop {
        let frame = wire::read_frame(&mut reader).context("the connection to the lab broke")?;
        // A sink that fails must not end the command: its exit status still counts.
        match frame {
            Some((Kind::Stdout, data)) => drop(output.stdout.write_all(&data)),
            Some((Kind::Stderr, data)) => drop(output.stderr.write_all(&data)),
            Some((Kind::Exit, data)) => return Ok(serde_json::from_slice(&data)?),
            Some((Kind::Taken, data)) => {
                let taken = data.try_into().map_or(0, u32::from_be_bytes);
                window.change(|room| room.map(|have| have.saturating_add(taken as usize)));
            }
            Some((Kind::Stdin | Kind::Signal, _)) => bail!("the lab agent sent a client's frame"),
            None => bail!("the lab went away while the command ran"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::agent;
    use super::*;

    /// The real agent on a loopback port of its own.
    fn lab() -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || agent::serve(&listener, "secret", || {}));
        Client::new(address, "secret")
    }

    fn sh(script: &str) -> CommandLine {
        CommandLine::new(["sh", "-c", script])
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn streams_and_status_come_back() {
        let (output, captured) = Output::capture();
        let command = sh("echo out; echo err >&2; pwd; echo $WORD; exit 7")
            .cwd("/usr")
            .env("WORD", "hello");
        let exit = lab()
            .spawn(command, output)
            .unwrap()
            .wait_for(LONG)
            .unwrap();
        assert_eq!(exit, Some(Exit::Code(7)));
        assert_eq!(captured.stdout(), "out\n/usr\nhello\n");
        assert_eq!(captured.stderr(), "err\n");
    }

    #[test]
    fn a_lot_of_output_arrives_whole() {
        let (output, captured) = Output::capture();
        let exit = lab()
            .spawn(sh("seq 200000"), output)
            .unwrap()
            .wait_for(LONG)
            .unwrap();
        assert_eq!(exit, Some(Exit::Code(0)));
        assert_eq!(captured.stdout().lines().count(), 200_000);
    }

    #[test]
    fn input_goes_in() {
        let (output, captured) = Output::capture();
        let command = lab().spawn(CommandLine::new(["cat"]), output).unwrap();
        assert!(command.input().write(b"through\n"));
        command.input().close();
        assert_eq!(command.wait_for(LONG).unwrap(), Some(Exit::Code(0)));
        assert_eq!(captured.stdout(), "through\n");
    }

    #[test]
    fn more_input_than_the_window_goes_through() {
        let (output, captured) = Output::capture();
        let command = lab().spawn(CommandLine::new(["wc", "-c"]), output).unwrap();
        for _ in 0..5 {
            assert!(command.input().write(&vec![b'x'; WINDOW]));
        }
        command.input().close();
        assert_eq!(command.wait_for(LONG).unwrap(), Some(Exit::Code(0)));
        assert_eq!(captured.stdout().trim(), (5 * WINDOW).to_string());
    }

    #[test]
    fn a_command_that_does_not_read_can_be_signalled() {
        let command = lab()
            .spawn(CommandLine::new(["sleep", "60"]), Output::null())
            .unwrap();
        let input = command.input();
        let feeder = std::thread::spawn(move || while input.write(&[0; 4096]) {});
        std::thread::sleep(Duration::from_millis(200));
        command.input().signal(15);
        assert_eq!(command.wait_for(LONG).unwrap(), Some(Exit::Signal(15)));
        feeder.join().unwrap();
    }

    #[test]
    fn a_signal_reaches_the_group() {
        let command = lab().spawn(sh("sleep 60 & wait"), Output::null()).unwrap();
        command.input().signal(15);
        assert_eq!(command.wait_for(LONG).unwrap(), Some(Exit::Signal(15)));
    }

    #[test]
    fn dropping_kills_even_one_that_ignores_its_input() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!(
            "echo $$ > {}.new && mv {0}.new {0}; sleep 60",
            pid_file.display()
        );
        let command = lab().spawn(sh(&script), Output::null()).unwrap();
        let input = command.input();
        let feeder = std::thread::spawn(move || while input.write(&[0; 4096]) {});
        let pid = loop {
            if let Ok(text) = std::fs::read_to_string(&pid_file) {
                break text.trim().to_owned();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        // Lets the pipe and the window fill up.
        std::thread::sleep(Duration::from_millis(200));
        drop(command);
        feeder.join().unwrap();
        let gone = || !std::path::Path::new("/proc").join(&pid).exists();
        let deadline = std::time::Instant::now() + LONG;
        while !gone() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(gone());
    }

    #[test]
    fn a_wrong_token_is_refused() {
        let lab = lab();
        let stranger = Client::new(lab.address, "guess");
        let error = stranger
            .spawn(sh("true"), Output::null())
            .unwrap_err()
            .to_string();
        assert_eq!(error, "the lab refused: wrong token");
    }

    #[test]
    fn a_missing_program_is_named() {
        let command = CommandLine::new(["no-such-program"]).cwd("/");
        let error = lab()
            .spawn(command, Output::null())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("the lab refused: could not start 'no-such-program' in /"));
    }
}
