//! The machine of a sandbox, as programs in it see it: randomness, ids, size, address, policy, mounts, users.
//!
//! ```text
//!  draw n of a source = hash(seed, source, n)     two machines have two seeds; a clone that shares one draws alike
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::life::{BOOT_ID, Life};
use crate::network::Policy;
use crate::tree::Tree;
use crate::world::{World, lock};

/// Machines have addresses of this network: `10.11.x.y`.
static NEXT: AtomicU32 = AtomicU32::new(2);

/// The way out of all machines; the host.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 11, 0, 1);

/// One machine.
#[derive(Debug)]
pub struct Guest {
    seed: Mutex<String>,
    drawn: Mutex<BTreeMap<&'static str, u64>>,
    clock: AtomicU64,
    /// Its address.
    pub address: Ipv4Addr,
    /// What it may reach.
    pub policy: Mutex<Policy>,
    /// A value that a kernel has once.
    pub panic: Mutex<String>,
    /// Users that its template made.
    pub users: Mutex<Vec<String>>,
    /// Who acts where nobody is named.
    pub user: Mutex<Option<String>>,
    /// Where processes start where no folder is named.
    pub workdir: Mutex<Option<String>>,
}

impl Guest {
    /// A machine of its own; `seed` is what makes it different.
    pub fn new(seed: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        Self {
            seed: Mutex::new(seed.to_owned()),
            drawn: Mutex::default(),
            clock: AtomicU64::new(0),
            address: Ipv4Addr::new(10, 11, number[2], number[3]),
            policy: Mutex::default(),
            panic: Mutex::new("0".to_owned()),
            users: Mutex::default(),
            user: Mutex::default(),
            workdir: Mutex::default(),
        }
    }

    /// 32 bytes of a source, in hexadecimal: others at each draw.
    pub fn draw(&self, w: &World, source: &'static str) -> String {
        let number = {
            let mut drawn = lock(&self.drawn);
            let number = drawn.entry(source).or_default();
            *number += 1;
            *number
        };
        let same = match source {
            "getrandom" => w.on("clones-draw-alike"),
            "urandom" => w.on("clones-read-alike"),
            "uuid" => w.on("clones-same-uuid"),
            "python" => w.on("warm-random-alike"),
            "openssl" => w.on("warm-openssl-alike"),
            _ => false,
        };
        let seed = lock(&self.seed).clone();
        hash(if same { "template" } else { &seed }, source, number)
    }

    /// A random id (RFC 9562, version 4).
    pub fn uuid(&self, w: &World) -> String {
        uuid(&self.draw(w, "uuid"))
    }

    /// The id of its kernel's start.
    pub fn boot_id(&self, w: &World, tree: &Tree) -> String {
        if w.on("clones-same-boot-id") {
            return uuid(&hash("template", "boot", 0));
        }
        let id = tree.read(BOOT_ID).unwrap_or_default();
        String::from_utf8_lossy(&id).trim().to_owned()
    }

    /// The id of its installation.
    pub fn machine_id(&self, w: &World) -> String {
        let seed = lock(&self.seed).clone();
        let same = w.on("clones-same-machine-id");
        let seed = if same { "template" } else { seed.as_str() };
        hash(seed, "machine", 0)[..32].to_owned()
    }

    /// Its name.
    pub fn hostname(&self, w: &World) -> String {
        if w.on("clones-same-hostname") {
            return "sandbox".to_owned();
        }
        lock(&self.seed).clone()
    }

    /// Seconds since the epoch, and since its start.
    pub fn clock(&self, w: &World, life: &Life) -> (f64, f64) {
        let now = millis(jiff::Timestamp::now());
        let wall = if w.on("clock-of-the-template") {
            now - 3_600_000
        } else {
            millis(life.clock())
        };
        let asked = self.clock.fetch_add(1, Ordering::Relaxed);
        let monotonic = if w.on("monotonic-goes-back") {
            now - 60_000 * asked
        } else {
            now
        };
        (seconds(wall), seconds(monotonic))
    }

    /// Takes the randomness of another one over, as a bad clone does.
    pub fn draws_as(&self, other: &Self) {
        let seed = lock(&other.seed).clone();
        *lock(&self.seed) = seed;
        let drawn = lock(&other.drawn).clone();
        *lock(&self.drawn) = drawn;
    }
}

fn millis(time: jiff::Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of this millennium are exact"
)]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

fn hash(seed: &str, source: &str, number: u64) -> String {
    let sum = Sha256::digest(format!("{seed}/{source}/{number}"));
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn uuid(hex: &str) -> String {
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or("");
    format!(
        "{}-{}-4{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    )
}
