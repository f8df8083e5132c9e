//! What can go wrong with programs and maps.

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use thiserror::Error;

use crate::policy::PolicyError;

/// Why the datapath refused.
#[derive(Debug, Error)]
pub enum DatapathError {
    /// The object could not be loaded: no bpf(2), no right to use it, or an old kernel.
    #[error(
        "the eBPF programs cannot be loaded (CAP_BPF, CAP_NET_ADMIN and Linux 5.8 are needed): {0}"
    )]
    Load(#[source] Box<EbpfError>),
    /// A program was refused or could not be attached.
    #[error("an eBPF program was refused: {0}")]
    Program(#[source] Box<ProgramError>),
    /// A map was refused or is full.
    #[error("an eBPF map was refused: {0}")]
    Map(#[source] Box<MapError>),
    /// The object lacks something this crate was built with.
    #[error("the eBPF object has no `{0}`")]
    Missing(&'static str),
    /// A policy that does not compile.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Four thousand million policy versions were used up; a restart begins anew.
    #[error("no policy version is left; restart the daemon")]
    ScopesExhausted,
}

impl From<ProgramError> for DatapathError {
    fn from(error: ProgramError) -> Self {
        Self::Program(Box::new(error))
    }
}

impl From<MapError> for DatapathError {
    fn from(error: MapError) -> Self {
        Self::Map(Box::new(error))
    }
}
