//! Templates as clients see them. Pure.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::fields::{bad, page_limit};
use crate::moment::Moment;
use crate::store::events::TemplateUse;
use crate::templates::{Reference, Template};

/// Query of the lists. There is one team.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ListQuery {
    #[serde(rename = "teamID")]
    _team_id: Option<String>,
    limit: Option<String>,
    next_token: Option<String>,
}

impl ListQuery {
    /// The page that the query selects of `ids`, which are in order and distinct, and what selects the next one: the last id of
    /// this one.
    pub fn page<'a>(&self, ids: &[&'a str]) -> Result<(Range<usize>, Option<&'a str>), ApiError> {
        let limit = page_limit(self.limit.as_deref())?;
        let start = match self.next_token.as_deref().filter(|token| !token.is_empty()) {
            None => 0,
            Some(token) => match Reference::parse(token) {
                Some(mark) => ids.partition_point(|id| *id <= mark.name.as_str()),
                None => return Err(bad("nextToken", "it is not of this server")),
            },
        };
        let end = ids.len().min(start + limit);
        let last = (end < ids.len()).then(|| ids[end - 1]);
        Ok((start..end, last))
    }
}

/// A template in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateInfo {
    /// Template id.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Build id.
    #[serde(rename = "buildID")]
    pub build_id: String,
    /// Virtual processors.
    pub cpu_count: u8,
    /// Memory in MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u32,
    /// Disk in MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u32,
    /// Whether other teams may use it.
    pub public: bool,
    /// Aliases.
    pub aliases: Vec<String>,
    /// Names; the same as the aliases.
    pub names: Vec<String>,
    /// When it was built.
    #[schema(value_type = String)]
    pub created_at: Moment,
    /// When it was built.
    #[schema(value_type = String)]
    pub updated_at: Moment,
    /// Nobody in particular.
    #[schema(value_type = Option<Object>)]
    pub created_by: Option<()>,
    /// When a sandbox was last made from it.
    #[schema(value_type = Option<String>)]
    pub last_spawned_at: Option<Moment>,
    /// How many sandboxes were made from it.
    pub spawn_count: i64,
    /// How many builds there are.
    pub build_count: u32,
    /// Version of the services in its sandboxes.
    pub envd_version: String,
    /// `ready`.
    pub build_status: &'static str,
}

/// A template with its builds.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TemplateDetail {
    /// The template.
    #[serde(flatten)]
    pub template: TemplateInfo,
    /// Its builds.
    pub builds: Vec<TemplateBuild>,
}

/// A build.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateBuild {
    /// Build id.
    #[serde(rename = "buildID")]
    pub build_id: String,
    /// `ready`.
    pub status: &'static str,
    /// When it began.
    #[schema(value_type = String)]
    pub created_at: Moment,
    /// When it last changed.
    #[schema(value_type = String)]
    pub updated_at: Moment,
    /// When it was done.
    #[schema(value_type = String)]
    pub finished_at: Moment,
    /// Virtual processors.
    pub cpu_count: u8,
    /// Memory in MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u32,
    /// Disk in MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u32,
    /// Version of the services in its sandboxes.
    pub envd_version: String,
}

/// What an alias stands for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TemplateAlias {
    /// Template id.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Whether other teams may use it.
    pub public: bool,
}

impl TemplateInfo {
    /// A template and its use.
    pub fn new(template: &Template, used: Option<&TemplateUse>) -> Self {
        Self {
            template_id: template.id.clone(),
            build_id: template.build_id.to_string(),
            cpu_count: template.vcpus,
            memory_mb: template.memory_mib,
            disk_size_mb: template.disk_mib,
            public: true,
            aliases: template.aliases.clone(),
            names: template.aliases.clone(),
            created_at: template.built_at,
            updated_at: template.built_at,
            created_by: None,
            last_spawned_at: used.map(|used| used.last_spawned_at),
            spawn_count: used.map_or(0, |used| used.spawn_count),
            build_count: 1,
            envd_version: agent_protocol::ENVD_VERSION.to_owned(),
            build_status: "ready",
        }
    }
}

impl From<&Template> for TemplateBuild {
    fn from(template: &Template) -> Self {
        Self {
            build_id: template.build_id.to_string(),
            status: "ready",
            created_at: template.built_at,
            updated_at: template.built_at,
            finished_at: template.built_at,
            cpu_count: template.vcpus,
            memory_mb: template.memory_mib,
            disk_size_mb: template.disk_mib,
            envd_version: agent_protocol::ENVD_VERSION.to_owned(),
        }
    }
}
