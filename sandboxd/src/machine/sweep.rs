//! What machines leave behind, and who it belongs to.
//!
//! ```text
//!   processes of the run folder   kept: the sandboxes' (by identity), the pool's        the rest is ended
//!   folders on either side        kept: of the same, by name                            the rest is removed
//!   cgroups                       kept: those that the kept processes were born in      the rest is removed
//! ```
//!
//! A process that waited for its sandbox has another name on its command line than its sandbox has, and its cgroup keeps
//! that name. So neither says whose it is: the identity under which a sandbox was started or adopted does.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Swept;
use super::cgroup::Cgroups;
use super::microvm::Microvms;
use super::process::{Process, ProcessIdentity, machines_below};
use crate::ids::{SandboxId, SnapshotId};

/// The process of each sandbox, and the cgroup that it was born in.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<SandboxId, Owner>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    identity: ProcessIdentity,
    group: Option<SandboxId>,
}

impl Known {
    /// `identity` is the sandbox's from now on.
    pub fn add(&self, id: &SandboxId, identity: ProcessIdentity, group: Option<SandboxId>) {
        self.lock().insert(id.clone(), Owner { identity, group });
    }

    /// Forgets a sandbox; what its cgroup is called, if that is known.
    fn remove(&self, id: &SandboxId) -> Option<SandboxId> {
        self.lock().remove(id)?.group
    }

    /// What belongs to some sandboxes: processes, and names of cgroups.
    fn of(&self, ids: &HashSet<SandboxId>) -> (HashSet<ProcessIdentity>, HashSet<SandboxId>) {
        let known = self.lock();
        let owners = ids.iter().filter_map(|id| known.get(id));
        let (mut processes, mut groups) = (HashSet::new(), HashSet::new());
        for Owner { identity, group } in owners {
            processes.insert(*identity);
            groups.extend(group.clone());
        }
        (processes, groups)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SandboxId, Owner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Microvms {
    /// Removes everything of a sandbox whose process is dead.
    pub(super) async fn discard_machine(&self, id: &SandboxId) {
        let group = self.known.remove(id);
        self.spawner.remove_folders(id).await;
        self.spawner
            .remove_group(group.as_ref().unwrap_or(id))
            .await;
    }

    pub(super) async fn sweep_all(
        &self,
        keep: HashSet<SandboxId>,
        snapshots: HashSet<SnapshotId>,
    ) -> Swept {
        let (mut processes, mut groups) = self.known.of(&keep);
        processes.extend(self.pool.identities());
        let waiting = self.pool.names();
        groups.extend(waiting.iter().cloned());
        let mut swept = Swept {
            processes: self.end_orphans(&processes).await,
            folders: 0,
        };
        for id in self.shared.layout.present() {
            if !keep.contains(&id) && !waiting.contains(&id) {
                self.known.remove(&id);
                self.spawner.remove_folders(&id).await;
                swept.folders += 1;
            }
        }
        for group in self.spawner.cgroups.iter().flat_map(Cgroups::present) {
            if !groups.contains(&group) {
                self.spawner.remove_group(&group).await;
                swept.folders += 1;
            }
        }
        for folder in self.shared.layout.snapshots_present() {
            let kept = folder
                .file_name()
                .and_then(|name| SnapshotId::parse(name.to_str()?))
                .is_some_and(|id| snapshots.contains(&id));
            if !kept && tokio::fs::remove_dir_all(&folder).await.is_ok() {
                swept.folders += 1;
            }
        }
        swept
    }

    /// Ends the processes of this run folder that are none of `kept`; how many there were.
    async fn end_orphans(&self, kept: &HashSet<ProcessIdentity>) -> usize {
        let run = self.shared.layout.run_dir();
        let mut ended = 0;
        for pid in machines_below(run) {
            let Ok(process) = Process::hold(pid) else {
                continue;
            };
            // Looked at again now that the pidfd is held: the number may have changed hands.
            if kept.contains(&process.identity()) || !machines_below(run).contains(&pid) {
                continue;
            }
            process.kill();
            process.exited().await;
            ended += 1;
        }
        ended
    }
}
