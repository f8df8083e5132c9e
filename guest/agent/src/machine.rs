//! What the agent does to the machine it runs on, behind one trait: the guest's PID 1 really does it
//! ([`crate::init`]), an ordinary process (tests, stand-alone mode) leaves its machine alone.

use agent_protocol::control::Configure;

/// Why the machine did not take on an identity.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A step failed.
    #[error("{step}: {source}")]
    Step {
        /// What was being done, as a sentence without its end.
        step: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl MachineError {
    /// Wraps the error of a step.
    pub fn step<E>(step: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Step {
            step,
            source: source.into(),
        }
    }
}

/// The machine under the agent. Calls may block for some milliseconds; `sync` for as long as the disk takes.
pub trait Machine: Send + Sync + std::fmt::Debug {
    /// Takes on clock, host name, network, limits and randomness of a sandbox.
    ///
    /// # Errors
    /// [`MachineError::Step`] for the first step that fails; earlier steps stay done.
    fn take_identity(&self, configure: &Configure) -> Result<(), MachineError>;

    /// Sets the wall clock, in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`MachineError::Step`].
    fn set_clock(&self, unix_time_ns: u64) -> Result<(), MachineError>;

    /// Publishes the sandbox's variables as files for programs that don't inherit the environment.
    ///
    /// # Errors
    /// [`MachineError::Step`].
    fn publish_variables(&self, variables: &[(&str, &str)]) -> Result<(), MachineError>;

    /// Holds every user process still; returns once they stand.
    ///
    /// # Errors
    /// [`MachineError::Step`] when they do not in time; they go on then.
    fn freeze(&self) -> Result<(), MachineError>;

    /// Lets user processes go on. Harmless when they do.
    ///
    /// # Errors
    /// [`MachineError::Step`].
    fn thaw(&self) -> Result<(), MachineError>;

    /// Writes file data back to the disk.
    fn sync(&self);

    /// Syncs and turns the machine off. Returns only when that fails.
    fn power_off(&self);
}

/// A machine that is left alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untouched;

impl Machine for Untouched {
    fn take_identity(&self, _configure: &Configure) -> Result<(), MachineError> {
        Ok(())
    }

    fn set_clock(&self, _unix_time_ns: u64) -> Result<(), MachineError> {
        Ok(())
    }

    fn publish_variables(&self, _variables: &[(&str, &str)]) -> Result<(), MachineError> {
        Ok(())
    }

    fn freeze(&self) -> Result<(), MachineError> {
        Ok(())
    }

    fn thaw(&self) -> Result<(), MachineError> {
        Ok(())
    }

    fn sync(&self) {}

    fn power_off(&self) {}
}
