//! A pulse that keeps a lab from standing still.
//!
//! ```text
//! pulse ── one byte, ten times a second ──▶ slirp ──▶ virtio-net ──▶ interrupt of the lab's CPU
//!   ▲ the connection broke │
//!   └── again, a beat later ◀┘
//! ```
//!
//! QEMU changes its record of pending interrupts at each entry into a nested guest and each exit from one, and does so without
//! the lock under which its timer adds to it. So now and then the lab's timer interrupt is forgotten. It stays pending in the
//! emulated APIC, but a CPU that halts meanwhile sleeps until another interrupt comes, and nothing in the lab happens: seen
//! were labs that slept for minutes, until a connection was made. The next beat wakes such a lab.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::Client;

/// Time between beats: the longest that a lab may stand still.
pub const PERIOD: Duration = Duration::from_millis(100);

/// The thread that beats; dropping it ends it.
#[derive(Debug)]
pub struct Pulse {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// Beats every `period` on a connection that `client` makes, and on a new one after it broke.
    #[must_use]
    pub fn start(client: Client, period: Duration) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut connection = None;
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                connection = connection
                    .or_else(|| client.pulse(period.max(Duration::from_secs(1))).ok())
                    .and_then(|mut stream| stream.write_all(&[0]).is_ok().then_some(stream));
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};
    use std::net::TcpListener;
    use std::time::Instant;

    use super::super::wire::{self, Op, Reply, Request};
    use super::*;

    #[test]
    fn it_beats_and_connects_again_until_it_is_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(listener.local_addr().unwrap(), "secret");
        let pulse = Pulse::start(client, Duration::from_millis(5));
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let request: Request = wire::read_line(&mut reader).unwrap();
            assert_eq!(
                (request.token.as_str(), request.op),
                ("secret", Op::Pulse {})
            );
            wire::write_line(&mut stream, &Reply::Ok { uptime: 1.0 }).unwrap();
            let mut beats = [9; 3];
            reader.read_exact(&mut beats).unwrap();
            assert_eq!(beats, [0; 3]);
        }
        let dropped = Instant::now();
        drop(listener);
        drop(pulse);
        assert!(dropped.elapsed() < Duration::from_secs(5));
    }
}
