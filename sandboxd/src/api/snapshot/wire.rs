//! Snapshots as clients see them, and pages of them. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::fields::{bad, page_limit, shortened};
use crate::ids::{SandboxId, SnapshotId};
use crate::moment::Moment;
use crate::store::captures::{Label, SavedCapture};
use crate::templates::Reference;

/// Body of `POST …/snapshots`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// Name with an optional `:tag`; a name that exists gets one more build.
    pub name: Option<String>,
    /// Whether memory is kept (the default), or the disk alone.
    pub memory: Option<bool>,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotInfo {
    /// What to create sandboxes from, and to delete it by.
    #[serde(rename = "snapshotID")]
    pub snapshot_id: String,
    /// Its names.
    pub names: Vec<String>,
}

/// Query of `GET /snapshots`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ListQuery {
    #[serde(rename = "sandboxID")]
    sandbox_id: Option<String>,
    name: Option<String>,
    limit: Option<String>,
    next_token: Option<String>,
}

/// A checked query.
#[derive(Clone, Debug)]
pub struct Selection {
    sandbox: Option<SandboxId>,
    name: Option<Reference>,
    behind: Option<Mark>,
    limit: usize,
}

/// A place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    created_at: Moment,
    id: SnapshotId,
}

/// One page.
#[derive(Debug)]
pub struct Page {
    /// Its snapshots.
    pub infos: Vec<SnapshotInfo>,
    /// Token of the next page, if there is one.
    pub next_token: Option<String>,
}

impl SnapshotRequest {
    /// The name. `is_template` says whether a template is called so.
    pub fn check(
        &self,
        is_template: impl Fn(&Reference) -> bool,
    ) -> Result<Option<Reference>, ApiError> {
        let Some(name) = &self.name else {
            return Ok(None);
        };
        let reference = reference("name", name)?;
        let bare = Reference {
            tag: None,
            ..reference.clone()
        };
        if is_template(&bare) {
            return Err(bad("name", "a template is called so"));
        }
        Ok(Some(reference))
    }
}

impl From<&Label> for SnapshotInfo {
    fn from(label: &Label) -> Self {
        let named = |name: &str| format!("{name}:{}", label.tag);
        let shown = label.name.as_deref().unwrap_or(label.family.as_str());
        Self {
            snapshot_id: named(shown),
            names: label.name.as_deref().map(named).into_iter().collect(),
        }
    }
}

impl ListQuery {
    /// The checked query.
    pub fn check(self) -> Result<Selection, ApiError> {
        let limit = page_limit(self.limit.as_deref())?;
        let sandbox = match self.sandbox_id.as_deref() {
            None => None,
            Some(text) => {
                let id = SandboxId::parse(text);
                Some(id.ok_or_else(|| bad("sandboxID", "it is not a sandbox id"))?)
            }
        };
        let name = self.name.as_deref().map(|name| reference("name", name));
        let behind = self.next_token.as_deref().filter(|token| !token.is_empty());
        Ok(Selection {
            sandbox,
            name: name.transpose()?,
            behind: behind.map(Mark::read).transpose()?,
            limit,
        })
    }
}

impl Selection {
    /// The page that the query selects of all builds, oldest first: the newest build of each snapshot, newest first.
    pub fn page(&self, builds: Vec<SavedCapture>) -> Page {
        let mut seen = std::collections::HashSet::new();
        let mut rows = Vec::new();
        for row in builds.into_iter().rev() {
            let Some(label) = row.label.clone() else {
                continue;
            };
            let mark = Mark {
                created_at: row.created_at,
                id: row.id.clone(),
            };
            if seen.insert((label.family.clone(), label.tag.clone())) && self.selects(&row, &label)
            {
                rows.push((mark, label));
            }
        }
        rows.sort_by(|(a, _), (b, _)| b.key().cmp(&a.key()));
        if let Some(behind) = &self.behind {
            rows.retain(|(mark, _)| mark.key() < behind.key());
        }
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let last = rows.last().filter(|_| more);
        Page {
            next_token: last.map(|(mark, _)| mark.write()),
            infos: rows.iter().map(|(_, label)| label.into()).collect(),
        }
    }

    fn selects(&self, row: &SavedCapture, label: &Label) -> bool {
        self.sandbox.as_ref().is_none_or(|id| row.sandbox == *id)
            && self.name.as_ref().is_none_or(|wanted| {
                let named = label.name.as_ref() == Some(&wanted.name)
                    || label.family.as_str() == wanted.name;
                named && wanted.tag.as_ref().is_none_or(|tag| *tag == label.tag)
            })
    }
}

impl Mark {
    fn key(&self) -> (Moment, &str) {
        (self.created_at, self.id.as_str())
    }

    fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}__{}", self.created_at, self.id))
    }

    fn read(token: &str) -> Result<Self, ApiError> {
        let mark = || {
            let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let (time, id) = text.split_once("__")?;
            Some(Self {
                created_at: Moment::parse(time)?,
                id: SnapshotId::parse(id)?,
            })
        };
        mark().ok_or_else(|| bad("nextToken", "it does not come from a page of this query"))
    }
}

fn reference(field: &'static str, text: &str) -> Result<Reference, ApiError> {
    let reference = Reference::parse(text).ok_or_else(|| {
        let why = format!("`{}` is not the name of a snapshot", shortened(text));
        bad(field, &why)
    })?;
    if reference.namespace.is_some() {
        return Err(bad(
            field,
            "this server has no teams, so a name has no namespace",
        ));
    }
    Ok(reference)
}
