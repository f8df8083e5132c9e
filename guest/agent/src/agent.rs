//! The agent's parts put together, and the operations that touch several of them.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use agent_protocol::PROTOCOL_VERSION;
use agent_protocol::control::{Configure, HelloReply};
use axum::Router;

use crate::machine::{Machine, MachineError};
use crate::metrics::Sampler;
use crate::process::Processes;
use crate::server;
use crate::state::{AccessToken, SharedState};

/// The agent's parts.
#[derive(Debug)]
pub struct Agent {
    /// Settings of the sandbox.
    pub state: SharedState,
    /// Processes of clients.
    pub processes: Arc<Processes>,
    /// Resource use.
    pub sampler: Sampler,
    /// The machine underneath.
    pub machine: Box<dyn Machine>,
    /// Address of `eth0`, for services of the guest that listen on nothing else.
    guest_address: Mutex<Option<Ipv4Addr>>,
}

impl Agent {
    /// Puts the parts together.
    pub fn new(
        state: SharedState,
        processes: Arc<Processes>,
        machine: Box<dyn Machine>,
    ) -> Arc<Self> {
        let sampler = Sampler::new(state.root());
        let guest_address = Mutex::default();
        Arc::new(Self {
            state,
            processes,
            sampler,
            machine,
            guest_address,
        })
    }

    /// HTTP routes of port 49983.
    pub fn envd(self: &Arc<Self>) -> Router {
        server::envd(self)
    }

    /// Address of `eth0`, once there is one.
    #[must_use]
    pub fn guest_address(&self) -> Option<Ipv4Addr> {
        *self
            .guest_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Answer to `hello`.
    #[must_use]
    pub fn hello(&self) -> HelloReply {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let millis = uptime
            .tv_sec
            .saturating_mul(1000)
            .saturating_add(uptime.tv_nsec / 1_000_000);
        HelloReply {
            protocol: PROTOCOL_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: boot_id.trim().to_owned(),
            uptime_ms: u64::try_from(millis).unwrap_or(0),
        }
    }

    /// Takes on the identity of a sandbox: the machine first, then the settings, so that no service answers for a
    /// sandbox whose limits or clock are not in place.
    ///
    /// # Errors
    /// [`MachineError`]; the settings are unchanged then.
    pub fn configure(&self, configure: Configure) -> Result<(), MachineError> {
        self.machine.take_identity(&configure)?;
        let identity = identity_variables(&configure.sandbox_id, &configure.template_id);
        self.machine.publish_variables(&identity)?;
        *self
            .guest_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner) =
            configure.network.as_ref().map(|network| network.address);
        let env = with_identity(&configure.env, &identity);
        self.state.update(|settings| {
            settings.configured = true;
            settings.incarnation += 1;
            settings.env = env;
            settings.sandbox_id = configure.sandbox_id;
            settings.template_id = configure.template_id;
            settings.access_token = configure.access_token.and_then(AccessToken::new);
            settings.default_user = configure.default_user;
            settings.default_workdir = configure.default_workdir;
            settings.code_interpreter = configure.code_interpreter;
        });
        // In a machine that goes on from a snapshot this is the first that user code sees of its new life.
        self.machine.thaw()
    }
}

/// The variables by which programs know their sandbox (E2B's names).
#[must_use]
pub fn identity_variables<'a>(
    sandbox_id: &'a str,
    template_id: &'a str,
) -> [(&'static str, &'a str); 3] {
    [
        ("E2B_SANDBOX", "true"),
        ("E2B_SANDBOX_ID", sandbox_id),
        ("E2B_TEMPLATE_ID", template_id),
    ]
}

/// A global environment with the identity in it; the identity wins.
#[must_use]
pub fn with_identity(
    env: &BTreeMap<String, String>,
    identity: &[(&str, &str)],
) -> BTreeMap<String, String> {
    let mut env = env.clone();
    env.extend(
        identity
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    env
}
