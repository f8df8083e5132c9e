//! A small world for tests: a host, the outside, and guests that are raw TAP descriptors.
//!
//! ```text
//!   guest (TAP fd) ── TAP ── host namespace ── veth up0 ═══ out0 ── outside namespace
//!   169.254.100.2             203.0.113.1, 198.51.100.1      203.0.113.2, 198.51.100.2
//! ```
//!
//! Both namespaces belong to threads and vanish with them, whatever a test does: no names, no
//! leftovers. Making them needs root; where that is refused, [`with_world`] says so and ends.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::datapath::packets::{Frame, Parsed, arp_reply, arp_request, checksum};
use crate::link::{GATEWAY_ADDRESS, GUEST_ADDRESS};
use crate::{Config, Netguard, Tap, tap};

pub const UPLINK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const CLOSED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// Time in which what must come has to come.
pub const SOON: Duration = Duration::from_secs(10);
/// Time after which what must not come counts as not coming.
pub const NEVER: Duration = Duration::from_millis(300);

type Job = Box<dyn FnOnce() + Send>;

/// The world; dropping it ends the outside.
pub struct World {
    pub state: tempfile::TempDir,
    jobs: Option<Sender<Job>>,
    outside: Option<JoinHandle<()>>,
}

/// Runs a test in a world of its own.
pub fn with_world(test: impl FnOnce(&World) + Send) {
    thread::scope(|scope| {
        let host = scope.spawn(|| match World::new() {
            Ok(world) => test(&world),
            Err(nix::errno::Errno::EPERM) => {
                eprintln!("not run: making a network namespace is refused, root is needed");
            }
            Err(error) => panic!("unshare: {error}"),
        });
        if let Err(panic) = host.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

impl World {
    fn new() -> nix::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let (jobs, todo) = channel::<Job>();
        let (ready, path) = channel();
        let outside = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let thread = rustix::thread::gettid().as_raw_nonzero();
            ready
                .send(format!("/proc/{}/task/{thread}/ns/net", std::process::id()))
                .unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let world = Self {
            state: tempfile::tempdir().unwrap(),
            jobs: Some(jobs),
            outside: Some(outside),
        };
        let namespace = path.recv().unwrap();
        ip("link set lo up");
        ip("link add up0 type veth peer name out0");
        ip(&format!("link set out0 netns {namespace}"));
        ip("address add 203.0.113.1/24 dev up0");
        ip("address add 198.51.100.1/24 dev up0");
        ip("link set up0 up");
        world.outside(|| {
            ip("link set lo up");
            ip("address add 203.0.113.2/24 dev out0");
            ip("address add 198.51.100.2/24 dev out0");
            ip("link set out0 up");
        });
        Ok(world)
    }

    /// Runs something in the outside namespace and returns what it returns.
    pub fn outside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job: Job = Box::new(move || {
            let _ = done.send(work());
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv().expect("the work outside panicked")
    }

    pub fn config(&self) -> Config {
        Config {
            spare_taps: 1,
            slots: 4,
            ..Config::new(self.state.path())
        }
    }

    pub fn open(&self) -> Netguard {
        Netguard::open(self.config()).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(outside) = self.outside.take() {
            let _ = outside.join();
        }
    }
}

pub fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// Names of the interfaces of this namespace.
pub fn links() -> Vec<String> {
    let links = crate::netlink::links().unwrap();
    let mut names: Vec<String> = links.into_iter().map(|link| link.name).collect();
    names.sort();
    names
}

/// Names of those that look like TAPs.
pub fn taps() -> Vec<String> {
    let taps = links().into_iter();
    taps.filter(|name| name.starts_with("sbx")).collect()
}

pub fn nft(arguments: &str) -> String {
    let output = Command::new("nft")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "nft {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const VNET: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;

/// A guest: the other end of a TAP.
pub struct Guest(File);

impl Guest {
    /// Opens the TAP and waits until frames flow both ways, by asking for the gateway.
    pub fn on(tap: &Tap) -> Self {
        let mut guest = Self(tap::attach(&tap.name).unwrap());
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            guest.send_bytes(&arp_request(GUEST_ADDRESS, GATEWAY_ADDRESS));
            if guest
                .receive(Duration::from_millis(50))
                .is_some_and(|frame| frame == arp_reply())
            {
                while guest.receive(Duration::from_millis(20)).is_some() {}
                return guest;
            }
        }
        panic!("the gateway never answered on {}", tap.name);
    }

    pub fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.bytes());
    }

    pub fn send_bytes(&mut self, frame: &[u8]) {
        self.write(&[0; VNET], frame);
    }

    /// Sends as a guest with checksum offload does: the pseudo header's sum in the packet, the
    /// rest left to the device.
    pub fn send_offloaded(&mut self, frame: &Frame) {
        let at = frame.checksum_at.unwrap();
        let mut bytes = frame.bytes();
        let full = u16::from_be_bytes([bytes[34 + at], bytes[34 + at + 1]]);
        // The finished checksum is the complement of pseudo sum + payload sum (field zero).
        let payload_sum = !checksum(&[&frame.payload]);
        let pseudo_sum = !checksum(&[&(!full).to_be_bytes(), &(!payload_sum).to_be_bytes()]);
        bytes[34 + at..34 + at + 2].copy_from_slice(&pseudo_sum.to_be_bytes());
        let mut header = [0; VNET];
        header[0] = NEEDS_CHECKSUM;
        header[6..8].copy_from_slice(&34_u16.to_ne_bytes());
        header[8..10].copy_from_slice(&u16::try_from(at).unwrap().to_ne_bytes());
        self.write(&header, &bytes);
    }

    fn write(&mut self, header: &[u8; VNET], frame: &[u8]) {
        // The kernel refuses frames it cannot take at all; those never reach a program.
        let _ = self.0.write(&[header, frame].concat());
    }

    /// The next frame, its checksum finished if that was left to the device.
    pub fn receive(&mut self, within: Duration) -> Option<Vec<u8>> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let timeout = Timespec::try_from(within).unwrap();
        if poll(&mut fds, Some(&timeout)).unwrap() == 0 {
            return None;
        }
        let mut buffer = vec![0; 65_600];
        let len = self.0.read(&mut buffer).unwrap();
        let header: [u8; VNET] = buffer[..VNET].try_into().unwrap();
        let mut frame = buffer[VNET..len].to_vec();
        if header[0] & NEEDS_CHECKSUM != 0 {
            let start = usize::from(u16::from_ne_bytes([header[6], header[7]]));
            let at = start + usize::from(u16::from_ne_bytes([header[8], header[9]]));
            let sum = checksum(&[&frame[start..]]);
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        Some(frame)
    }

    /// The next packet, its checksums verified; panics when none comes.
    #[track_caller]
    pub fn expect(&mut self) -> Parsed {
        let frame = self.receive(SOON).expect("no packet came");
        let parsed = Parsed::of(&frame);
        assert!(parsed.checksum_ok, "wrong checksum: {frame:x?}");
        assert_eq!(parsed.destination, GUEST_ADDRESS);
        parsed
    }

    #[track_caller]
    pub fn expect_nothing(&mut self) {
        let frame = self.receive(NEVER);
        assert!(frame.is_none(), "came: {frame:x?}");
    }
}
