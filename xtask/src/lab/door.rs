//! A door in front of a port that QEMU forwards: it holds a crowd that QEMU cannot.
//!
//! ```text
//! clients ══▶ door: as many may wait as the kernel lets ──▶ one knock at a time, again after 50 ms ──▶ QEMU's port ──▶ lab
//! ```
//!
//! libslirp listens with a backlog of one. When more clients come at once than QEMU takes in between, the kernel drops what
//! they send first, and they try again by themselves after 1, 3, 7, 15 … seconds: seen were connections that took 20 s to a
//! lab that had nothing to do. The door takes all at once, and knocks at QEMU's port more often than that.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_linger;

/// How long QEMU gets to answer a knock: on a loopback it does so at once, or not for a second.
const KNOCK: Duration = Duration::from_millis(50);

/// How long it is knocked at a port before the client is sent away.
const KNOCKING: Duration = Duration::from_secs(30);

/// Clients that may wait to be taken in; the kernel's own limit is often lower.
const CROWD: i32 = 4096;

/// Bytes that are carried at a time.
const LOAD: usize = 64 << 10;

/// Stack of a thread that carries.
const STACK: usize = 128 << 10;

/// A listening port. Dropped, it takes in nobody more; who is in stays until one side closes.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Opens on port `wanted` of the loopback, or on a free one, for the port `inside` there.
    ///
    /// # Errors
    /// When the port can't be had.
    pub fn open(wanted: Option<u16>, inside: SocketAddr) -> Result<Self> {
        let port = wanted.unwrap_or(0);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
            format!("port {port} of this machine can't be used: is something listening there?")
        })?;
        rustix::net::listen(&listener, CROWD)?;
        let address = listener.local_addr()?;
        let closed = Arc::new(AtomicBool::new(false));
        let seen = closed.clone();
        let thread = Builder::new()
            .name("door".to_owned())
            .spawn(move || take_in(&listener, inside, &seen))?;
        Ok(Self {
            address,
            closed,
            thread: Some(thread),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
        // Wakes the thread, which then sees that it is over.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn take_in(listener: &TcpListener, inside: SocketAddr, closed: &AtomicBool) {
    let turn = Arc::new(Mutex::new(()));
    loop {
        let client = listener.accept();
        if closed.load(Ordering::Acquire) {
            return;
        }
        let Ok((client, _)) = client else {
            // Out of descriptors, most likely: they come back.
            std::thread::sleep(KNOCK);
            continue;
        };
        let turn = turn.clone();
        // Without a thread the client is dropped, which it sees.
        let _ = Builder::new()
            .stack_size(STACK)
            .spawn(move || pass(&client, inside, &turn));
    }
}

/// Carries both ways until both have ended.
fn pass(client: &TcpStream, inside: SocketAddr, turn: &Mutex<()>) {
    let knocked = {
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        knock(inside)
    };
    let Ok(server) = knocked else {
        return break_off(client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(from_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else {
        return break_off(client);
    };
    let back = Builder::new()
        .stack_size(STACK)
        .spawn(move || carry(&from_server, &to_client));
    let Ok(back) = back else {
        return break_off(client);
    };
    carry(client, &server);
    let _ = back.join();
}

fn knock(inside: SocketAddr) -> std::io::Result<TcpStream> {
    let began = Instant::now();
    loop {
        match TcpStream::connect_timeout(&inside, KNOCK) {
            Err(error) if error.kind() == ErrorKind::TimedOut && began.elapsed() < KNOCKING => {}
            ended => return ended,
        }
    }
}

/// Carries one way. An end is passed on as an end, a break as a break.
fn carry(mut from: &TcpStream, mut to: &TcpStream) {
    let mut load = vec![0; LOAD];
    loop {
        let read = match from.read(&mut load) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read,
        };
        match read {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(read) => {
                if to.write_all(&load[..read]).is_err() {
                    return break_off(from);
                }
            }
            Err(_) => return break_off(to),
        }
    }
}

/// Makes a connection's close a reset (SO_LINGER of zero, socket(7)), and ends the thread that reads of it, so that it is
/// closed. Shutting it down for writing would send an end before the reset.
fn break_off(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening() -> (TcpListener, Door) {
        let inside = TcpListener::bind("127.0.0.1:0").unwrap();
        let door = Door::open(None, inside.local_addr().unwrap()).unwrap();
        (inside, door)
    }

    #[test]
    fn bytes_and_ends_pass_both_ways() {
        let (inside, door) = listening();
        let mut client = TcpStream::connect(door.address()).unwrap();
        let (mut server, _) = inside.accept().unwrap();
        let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let expected = sent.clone();
        let echo = std::thread::spawn(move || {
            let mut got = Vec::new();
            server.read_to_end(&mut got).unwrap();
            server.write_all(&got).unwrap();
        });
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert!(back == expected);
        echo.join().unwrap();
    }

    #[test]
    fn a_crowd_gets_through_a_door_whose_port_takes_one_at_a_time() {
        let (inside, door) = listening();
        rustix::net::listen(&inside, 1).unwrap();
        let clients: Vec<TcpStream> = (0..64)
            .map(|_| TcpStream::connect(door.address()).unwrap())
            .collect();
        let served = std::thread::spawn(move || {
            for number in 0..64_u8 {
                // Slower than clients come, as QEMU is.
                std::thread::sleep(Duration::from_millis(5));
                let (mut server, _) = inside.accept().unwrap();
                server.write_all(&[number]).unwrap();
            }
        });
        let began = Instant::now();
        for mut client in clients {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
        }
        served.join().unwrap();
        // By themselves clients would knock again after 1, 3, 7, 15 … seconds.
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_break_is_passed_on_as_a_break_and_nobody_at_home_too() {
        let (inside, door) = listening();
        let mut client = TcpStream::connect(door.address()).unwrap();
        let (server, _) = inside.accept().unwrap();
        set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
        drop(server);
        let broken = client.read(&mut [0]).unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::ConnectionReset);
        drop(inside);
        let mut client = TcpStream::connect(door.address()).unwrap();
        let broken = client.read(&mut [0]).unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_port_that_is_taken_is_told_and_a_dropped_door_gives_its_port_back() {
        let (inside, door) = listening();
        let port = door.address().port();
        let refused = Door::open(Some(port), inside.local_addr().unwrap()).unwrap_err();
        assert!(format!("{refused:#}").contains("is something listening there?"));
        drop(door);
        Door::open(Some(port), inside.local_addr().unwrap()).unwrap();
    }
}
