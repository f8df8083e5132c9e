//! Snapshots that clients ask for: taken of a running sandbox, kept until they are deleted, and started from as from a
//! template.
//!
//! ```text
//!   name[:tag]  or  family[:tag]   ──► all builds of the family that have the tag ──► the newest counts
//! ```
//!
//! Taking one under a name that exists adds a build to its family (E2B); the ones before stay until the whole is deleted.

use std::sync::Arc;

use super::capture::{CaptureError, Taken};
use super::create::CreateError;
use super::manager::Manager;
use super::sandbox::Origin;
use super::state::Refusal;
use crate::ids::{SandboxId, SnapshotId};
use crate::store::StoreError;
use crate::store::captures::{Kind, Label, SavedCapture};
use crate::templates::{DEFAULT_TAG, Reference};

/// Why a snapshot was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// There is none.
    #[error("There is no such snapshot.")]
    NotFound,
    /// A sandbox was created from it and is not gone.
    #[error("The sandbox `{0}` was created from it and is not gone.")]
    InUse(SandboxId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Manager {
    /// Takes a snapshot of a running sandbox, which goes on.
    pub async fn take_snapshot(
        self: &Arc<Self>,
        id: &SandboxId,
        name: Option<Reference>,
        memory: bool,
    ) -> Result<Taken<SavedCapture>, CaptureError> {
        let sandbox = self.find(id).ok_or(Refusal::Gone)?;
        let snapshot = SnapshotId::generate()?;
        let (name, tag) = match name {
            None => (None, None),
            Some(reference) => (Some(reference.name), reference.tag),
        };
        let row = SavedCapture {
            label: Some(Label {
                family: snapshot.clone(),
                name,
                tag: tag.unwrap_or_else(|| DEFAULT_TAG.to_owned()),
            }),
            known: Some(sandbox.known()),
            ..SavedCapture::new(snapshot, Kind::Named, id.clone(), memory)
        };
        let taken = self.capture(&sandbox, row).await?;
        self.note(id, "snapshot", "A snapshot of the sandbox was taken.");
        Ok(taken)
    }

    /// The newest build of the snapshot that a reference names.
    pub async fn find_snapshot(
        &self,
        reference: &Reference,
    ) -> Result<Option<SavedCapture>, StoreError> {
        let tag = reference.tag.as_deref().unwrap_or(DEFAULT_TAG);
        let named = self.parts.store.named_snapshots().await?;
        let mut builds = named.into_iter().rev();
        Ok(builds.find(|row| label_of(row, reference).is_some_and(|label| label.tag == tag)))
    }

    /// The id, as a template, of the snapshot that a reference names; without a tag any of its builds will do.
    pub async fn snapshot_family(
        &self,
        reference: &Reference,
    ) -> Result<Option<SnapshotId>, StoreError> {
        let named = self.parts.store.named_snapshots().await?;
        let mut labels = named.iter().filter_map(|row| label_of(row, reference));
        let tag = reference.tag.as_deref();
        let found = labels.find(|label| tag.is_none_or(|tag| label.tag == tag));
        Ok(found.map(|label| label.family.clone()))
    }

    /// Deletes all builds that a reference names: those with its tag, or all of the family.
    pub async fn delete_snapshot(&self, reference: &Reference) -> Result<(), DeleteError> {
        let store = &self.parts.store;
        let mut builds = store.named_snapshots().await?;
        let tag = reference.tag.as_deref();
        builds.retain(|row| {
            label_of(row, reference).is_some_and(|label| tag.is_none_or(|tag| label.tag == tag))
        });
        if builds.is_empty() {
            return Err(DeleteError::NotFound);
        }
        let user = self.all().into_iter().find(|sandbox| {
            let origin = sandbox.facts.origin.as_ref();
            let used = |origin: &Origin| builds.iter().any(|row| row.id == origin.snapshot);
            origin.is_some_and(used) && !sandbox.lock().life.is_over()
        });
        if let Some(sandbox) = user {
            return Err(DeleteError::InUse(sandbox.id.clone()));
        }
        for row in &builds {
            store.retire_snapshot(row.id.clone()).await?;
        }
        for row in builds {
            self.drop_snapshot(row.id).await;
        }
        Ok(())
    }

    /// The template behind a snapshot, in the size that the sandbox had.
    pub fn template_behind(
        &self,
        row: &SavedCapture,
    ) -> Result<Arc<crate::templates::Template>, CreateError> {
        let known = row.known.as_ref();
        let known = known.ok_or_else(|| CreateError::NoTemplate(row.id.to_string()))?;
        self.template_of(&known.facts)
    }
}

/// The label of a build, if a reference means its family.
fn label_of<'a>(row: &'a SavedCapture, reference: &Reference) -> Option<&'a Label> {
    let label = row.label.as_ref()?;
    let named =
        label.name.as_ref() == Some(&reference.name) || label.family.as_str() == reference.name;
    (named && reference.namespace.is_none()).then_some(label)
}
