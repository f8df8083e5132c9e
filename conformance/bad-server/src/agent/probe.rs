//! The suite's probe, as python3 in a sandbox would run it. What it prints is computed from the sandbox's and the world's
//! state; it knows no check.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::User;
use crate::guest::GATEWAY;
use crate::network::{Peer, peer, resolved};
use crate::world::{Sandbox, World, lock};

/// The line by which the shell knows the script.
pub const MARK: &str = "e2b-conformance probe";

/// MiB of memory and of disk of a machine.
const MEMORY: u64 = 512;
const DISK: u64 = 1_024;

/// What the probe prints; none when it is killed before.
pub fn run(w: &World, sandbox: &Sandbox, who: &User, args: &[&str]) -> Option<Value> {
    let guest = &sandbox.guest;
    match args {
        ["draw"] => Some(json!({
            "getrandom": guest.draw(w, "getrandom"),
            "urandom": guest.draw(w, "urandom"),
            "uuid": guest.uuid(w),
            "kernel_uuid": guest.uuid(w),
        })),
        ["identity"] => Some(json!({
            "boot_id": guest.boot_id(w, &lock(&sandbox.tree)),
            "machine_id": guest.machine_id(w),
            "hostname": guest.hostname(w),
        })),
        ["clock"] => {
            let (time, monotonic) = guest.clock(w, &sandbox.life);
            Some(json!({ "time": time, "monotonic": monotonic }))
        }
        ["steps"] => {
            let readings: Vec<f64> = (0..100).map(|_| guest.clock(w, &sandbox.life).1).collect();
            let back = readings.windows(2).filter(|two| two[1] < two[0]).count();
            Some(json!({ "back": back, "last": readings.last() }))
        }
        ["size"] => Some(size(w)),
        ["addresses"] => {
            Some(json!({ "address": guest.address.to_string(), "gateway": GATEWAY.to_string() }))
        }
        ["answering", _, places @ ..] => Some(answering(w, sandbox, places)),
        ["reach", _, url] => Some(reach(w, sandbox, url, "")),
        ["reach", _, url, name, ..] => Some(reach(w, sandbox, url, name)),
        ["dns", _, server, _] => {
            let server: Ipv4Addr = server.parse().unwrap_or(Ipv4Addr::UNSPECIFIED);
            let answered = lock(&guest.policy).allows(w, server, 53, None);
            Some(json!({ "answered": answered }))
        }
        ["source", _, url] => {
            let reached =
                w.on("any-source-address") && reach(w, sandbox, url, "")["reached"] == true;
            Some(json!({ "tried": { "198.51.100.7": { "reached": reached } } }))
        }
        ["kernel", value] => Some(kernel(w, sandbox, who, value)),
        ["sees", path, backwards] => Some(sees(w, sandbox, path, backwards)),
        ["forks", _] => {
            ended(w, sandbox, "fork-bomb-ends-sandbox");
            Some(json!({ "made": 1_000 }))
        }
        ["hog", _] => {
            ended(w, sandbox, "memory-hog-ends-sandbox");
            None
        }
        ["fill", path, most] => {
            ended(w, sandbox, "full-disk-ends-sandbox");
            let most: u64 = most.parse().unwrap_or(0);
            let _ = lock(&sandbox.tree).write(path, Vec::new(), &who.name);
            Some(json!({ "taken": most.min(DISK), "said": "No space left on device" }))
        }
        _ => Some(json!({ "error": "the probe does not know this" })),
    }
}

fn size(w: &World) -> Value {
    let of = |amount: u64, fault: &str| if w.on(fault) { amount * 2 } else { amount } << 20;
    json!({
        "cpus": if w.on("cpus-of-the-host") { 64 } else { 2 },
        // The kernel keeps some of it.
        "memory": of(MEMORY, "memory-of-the-host") - (20 << 20),
        "disk": of(DISK, "disk-of-the-host") - (30 << 20),
    })
}

/// With this fault the sandbox does not outlive what was done to it.
fn ended(w: &World, sandbox: &Sandbox, fault: &str) {
    if w.on(fault) {
        lock(&w.sandboxes).remove(&sandbox.id);
        sandbox.die();
    }
}

fn answering(w: &World, sandbox: &Sandbox, places: &[&str]) -> Value {
    let mut found: Vec<&str> = places
        .iter()
        .copied()
        .filter(|place| {
            let Some((host, port)) = place.rsplit_once(':') else {
                return false;
            };
            let (Some(address), Ok(port)) = (resolved(host), port.parse()) else {
                return false;
            };
            peer(w, sandbox, address, port, None) != Peer::None
        })
        .collect();
    found.sort_unstable();
    json!({ "answering": found })
}

fn reach(w: &World, sandbox: &Sandbox, url: &str, name: &str) -> Value {
    let (scheme, place) = url.split_once("://").unwrap_or(("http", url));
    let usual = if scheme == "https" { 443 } else { 80 };
    let (host, port) = match place.split_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(usual)),
        None => (place, usual),
    };
    let spoken = match (name, host.parse::<Ipv4Addr>()) {
        ("", Ok(_)) => None,
        ("", Err(_)) => Some(host),
        (name, _) => Some(name),
    };
    match resolved(host).map(|address| peer(w, sandbox, address, port, spoken)) {
        None => json!({ "reached": false, "said": "gaierror" }),
        Some(Peer::None) => json!({ "reached": false, "said": "ConnectionRefusedError" }),
        Some(Peer::Inside) => json!({ "reached": true, "said": "HTTP/1.1 200 OK" }),
        Some(Peer::Web(name)) => json!({ "reached": true, "said": format!("HTTP/1.1 301 {name}") }),
    }
}

fn kernel(w: &World, sandbox: &Sandbox, who: &User, value: &str) -> Value {
    let own = &sandbox.guest.panic;
    let written = value != "-" && who.name == "root";
    if written {
        *lock(own) = value.to_owned();
        if w.on("kernel-shared") {
            lock(&w.sandboxes)
                .values()
                .for_each(|other| *lock(&other.guest.panic) = value.to_owned());
        }
    }
    json!({ "written": written, "value": lock(own).clone() })
}

fn sees(w: &World, sandbox: &Sandbox, path: &str, backwards: &str) -> Value {
    let word: String = backwards.chars().rev().collect();
    let all = lock(&w.sandboxes);
    let among = |fault: &str| {
        let shared = w.on(fault);
        all.values()
            .filter(move |other| shared || other.id == sandbox.id)
    };
    let file = among("files-shared").any(|one| lock(&one.tree).get(path).is_some());
    let process = among("processes-shared").any(|one| {
        lock(&one.processes)
            .values()
            .any(|process| process.config.to_string().contains(&word))
    });
    json!({ "file": file, "process": process })
}
