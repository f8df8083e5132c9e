//! One run, from the command line's words to a folder of results.
//!
//! ```text
//!   open: target, run name, folder with room for the report, signals, preflight (a whole sandbox)
//!     │
//!   measure: the command's own
//!     │
//!   close: kill what is left, write report and distributions, print the table, choose the exit code
//! ```
//!
//! Exit codes: 0 measured, all good · 1 measured, with failures or something left behind · 2 wrong usage · 3 no target, or it
//! went away · 4 results could not be written · 130 interrupted. Whatever the code, what was measured is kept.

pub mod compose;
pub mod own;
pub mod preflight;
pub mod result;
pub mod running;
pub mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use reports::folder::FolderError;

use crate::drive::stop::on_signals;
use crate::drive::{Ledger, Stop};
use crate::e2b::{Client, Sandbox, Target};
use crate::live::Live;
use crate::probe::reach::Way;
use crate::probe::{Probe, ProbeError};
use crate::record::Recorder;
use crate::record::collector::Heading;
use crate::record::space::{Room, RoomError};

use self::own::Usage;
pub use self::preflight::PreflightError;
pub use self::result::Extras;
pub use self::running::{Running, Step};

/// What a run was told about itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The command: `cold-start`, …
    pub scenario: &'static str,
    /// Where results go.
    pub folder: PathBuf,
    /// What people call the target.
    pub name: Option<String>,
    /// What is known of the server's machine.
    pub host: compose::Host,
    /// Seed of everything random.
    pub seed: u64,
    /// How long turns may go on after the run was told to stop.
    pub grace: Duration,
    /// No progress is shown.
    pub quiet: bool,
    /// The command line, without the key.
    pub command: Vec<String>,
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The target is of no use.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Somebody's results would be lost.
    #[error("{} holds a report already: give another --out", .0.display())]
    Taken(PathBuf),
    /// The server's machine cannot be looked at, though there is said to be a way.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Results cannot be written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Results would not fit.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The system has no signals or threads for us.
    #[error("could not start: {0}")]
    System(#[from] std::io::Error),
}

/// A run.
#[derive(Debug)]
pub struct Session {
    /// What it was told.
    pub settings: Settings,
    /// Clients, one per side.
    pub clients: Vec<Client>,
    /// What each side has made.
    pub ledgers: Vec<Ledger>,
    /// When to end early.
    pub stop: Stop,
    /// Name of the run.
    pub run: String,
    room: Option<Room>,
    started: Timestamp,
    began_wall: SystemTime,
    usage: Usage,
}

impl Session {
    /// Opens a run against one or more targets; each must make a sandbox that answers.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn open(mut settings: Settings, targets: Vec<Target>) -> Result<Self, SessionError> {
        if settings.folder.join(reports::folder::REPORT).exists() {
            return Err(SessionError::Taken(settings.folder));
        }
        let run = name();
        let stop = Stop::default();
        on_signals(&stop)?;
        let clients: Vec<Client> = targets.into_iter().map(Client::new).collect();
        let ledgers: Vec<Ledger> = clients.iter().map(|_| Ledger::new(&run)).collect();
        for (client, ledger) in clients.iter().zip(&ledgers) {
            preflight::check(client, ledger).await?;
        }
        if let Some(way) = settings.host.way.clone()
            && way != Way::Here
        {
            let reading = Probe::of_machine(way).read(None).await?;
            settings.host.probed = Some(reading.machine);
        }
        let made = std::fs::create_dir_all(&settings.folder);
        made.map_err(|source| FolderError::Io {
            path: settings.folder.clone(),
            source,
        })?;
        Ok(Self {
            room: Room::set_aside(&settings.folder)?,
            settings,
            clients,
            ledgers,
            stop,
            run,
            started: Timestamp::now(),
            began_wall: SystemTime::now(),
            usage: Usage::now(),
        })
    }

    /// Starts to write down.
    ///
    /// # Errors
    /// When the file of samples cannot be made.
    pub fn recorder(
        &self,
        headings: Vec<Heading>,
        live: &Arc<Live>,
    ) -> Result<Recorder, FolderError> {
        let folder = Some(self.settings.folder.as_path());
        Recorder::start(folder, headings, Arc::clone(live), self.stop.clone())
    }

    /// The only client of a run against one target.
    ///
    /// # Panics
    /// Never: a session has at least one.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.clients[0]
    }

    /// Its ledger.
    ///
    /// # Panics
    /// Never: a session has at least one.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledgers[0]
    }

    /// Makes a sandbox that stays until the end, when it is killed with all the others.
    ///
    /// # Errors
    /// When the server makes none.
    pub async fn make(&self) -> Result<Sandbox, SessionError> {
        let created = self.client().create(&self.run, None).await;
        let sandbox = created.map_err(|source| PreflightError::Create {
            url: self.client().target.api.to_string(),
            template: self.client().target.template.clone(),
            source,
        })?;
        self.ledger().made(&sandbox.value.id);
        Ok(sandbox.value)
    }

    /// Now, as the beginning of what is measured.
    #[must_use]
    pub fn begin(&mut self) -> Instant {
        self.started = Timestamp::now();
        self.began_wall = SystemTime::now();
        self.usage = Usage::now();
        Instant::now()
    }
}

/// A name that no other run has: the time and a few random digits.
fn name() -> String {
    let mut random = [0; 4];
    // Without randomness the time alone has to do.
    let _ = getrandom::fill(&mut random);
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%S");
    format!("{stamp}-{:08x}", u32::from_le_bytes(random))
}
