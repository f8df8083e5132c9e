//! Bodies of creates and of sandboxes, and the rules about them. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::checkpoints::wire::AutoCheckpoint;
use crate::api::error::ApiError;
use crate::api::fields::{bad, shortened};
use crate::egress::options::{NetworkRequest, is_empty};
use crate::egress::{Options, Verdict};
use crate::lifecycle::create::Spec;
use crate::lifecycle::sandbox::{Network, Origin, PauseMode, View};
use crate::lifecycle::state::OnTimeout as End;
use crate::machine::Source;
use crate::moment::Moment;
use crate::services::Services;
use crate::templates::Template;

/// A constant that older clients expect; they append it to the sandbox id.
pub const CLIENT_ID: &str = "6532622b";

/// Most members of `metadata` and of `envVars`.
const MAX_PAIRS: usize = 1_024;

/// Which create was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `POST /sandboxes`.
    V1,
    /// `POST /v2/sandboxes`.
    V2,
}

/// Body of a create request.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CreateRequest {
    /// Id or alias of the template, or a snapshot, with an optional `:tag`.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Seconds to live, at least 1; 300 when absent (15 in the first version).
    pub timeout: Option<i64>,
    /// Whether the sandbox is paused at the end of its time, instead of killed.
    pub auto_pause: Option<bool>,
    /// Whether it is paused with its memory then (the default), or with its disk alone.
    pub auto_pause_memory: Option<bool>,
    /// Whether traffic wakes it.
    pub auto_resume: Option<AutoResume>,
    /// Checkpoints that are taken without being asked for (not in E2B's API).
    pub auto_checkpoint: Option<AutoCheckpoint>,
    /// Whether the sandbox's services ask for a token; always in the second version.
    pub secure: Option<bool>,
    /// Whether the sandbox may reach the internet; the server's default when absent.
    #[serde(rename = "allow_internet_access")]
    pub allow_internet_access: Option<bool>,
    /// Network options.
    pub network: Option<NetworkRequest>,
    /// Labels of the client.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Environment of all processes.
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Not supported; must be absent or null.
    pub mcp: Option<Value>,
    /// Not supported; must be absent or without tokens.
    pub iam: Option<Value>,
    /// Not supported; must be absent or empty.
    pub volume_mounts: Option<Value>,
}

/// What a sandbox begins from.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its template.
    pub template: Arc<Template>,
    /// Its contents.
    pub source: Source,
    /// The snapshot that it is created from.
    pub origin: Option<Origin>,
    /// Environment that it has already.
    pub env: BTreeMap<String, String>,
}

/// `autoResume` of a create request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoResume {
    /// Whether traffic wakes a paused sandbox.
    pub enabled: bool,
}

/// Answer to create and connect.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// Template id.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Sandbox id.
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    /// A constant.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// First alias of the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Version of the sandbox's services.
    pub envd_version: String,
    /// Token of the sandbox's services, when they are secured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envd_access_token: Option<String>,
    /// Token of the other ports, when they are private.
    pub traffic_access_token: Option<String>,
    /// Domain under which the sandbox is reached, when it is not the client's default.
    pub domain: Option<String>,
}

/// A sandbox in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedSandbox {
    /// Template id.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// First alias of the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Sandbox id.
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    /// A constant.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// When it began to run.
    #[schema(value_type = String)]
    pub started_at: Moment,
    /// When it will be ended; when it was paused, of a paused one.
    #[schema(value_type = String)]
    pub end_at: Moment,
    /// Virtual processors.
    pub cpu_count: u8,
    /// Memory in MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u32,
    /// Disk in MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u32,
    /// Labels of the client.
    pub metadata: BTreeMap<String, String>,
    /// Whether it runs.
    pub state: State,
    /// Version of the sandbox's services.
    pub envd_version: String,
}

/// A sandbox with everything about it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxDetail {
    /// What a list shows.
    #[serde(flatten)]
    pub listed: ListedSandbox,
    /// Token of the sandbox's services, when they are secured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envd_access_token: Option<String>,
    /// As the create request said.
    pub allow_internet_access: Option<bool>,
    /// Domain under which the sandbox is reached, when it is not the client's default.
    pub domain: Option<String>,
    /// Network options as the client wrote them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Value>,
    /// What happens at the end of its time.
    pub lifecycle: Lifecycle,
    /// What was kept of it, while it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_mode: Option<ShownPauseMode>,
}

/// What was kept of a paused sandbox.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShownPauseMode {
    /// Memory and disk.
    Full,
    /// The disk.
    Filesystem,
}

/// What happens at the end of a sandbox's time.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Whether traffic wakes it.
    pub auto_resume: bool,
    /// Killed or paused.
    pub on_timeout: OnTimeout,
}

/// What happens when the time is over.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// The sandbox is killed.
    Kill,
    /// The sandbox is paused.
    Pause,
}

/// State of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs.
    Running,
    /// It is paused.
    Paused,
}

impl Sandbox {
    /// A sandbox as create and connect show it.
    pub fn new(view: &View, domain: Option<&str>) -> Self {
        Self {
            template_id: view.facts.shown_template().to_owned(),
            sandbox_id: view.id.to_string(),
            client_id: CLIENT_ID.to_owned(),
            alias: view.facts.shown_alias().map(str::to_owned),
            envd_version: agent_protocol::ENVD_VERSION.to_owned(),
            envd_access_token: view.facts.access_token.clone(),
            traffic_access_token: view.facts.traffic_token.clone(),
            domain: domain.map(str::to_owned),
        }
    }
}

impl From<&View> for ListedSandbox {
    fn from(view: &View) -> Self {
        let facts = &view.facts;
        Self {
            template_id: facts.shown_template().to_owned(),
            alias: facts.shown_alias().map(str::to_owned),
            sandbox_id: view.id.to_string(),
            client_id: CLIENT_ID.to_owned(),
            started_at: view.span.started_at,
            end_at: view.span.end_at,
            cpu_count: facts.vcpus,
            memory_mb: facts.memory_mib,
            disk_size_mb: facts.disk_mib,
            metadata: facts.metadata.clone(),
            state: match view.paused {
                None => State::Running,
                Some(_) => State::Paused,
            },
            envd_version: agent_protocol::ENVD_VERSION.to_owned(),
        }
    }
}

impl SandboxDetail {
    /// A sandbox with everything about it.
    pub fn new(view: &View, domain: Option<&str>) -> Self {
        Self {
            listed: view.into(),
            envd_access_token: view.facts.access_token.clone(),
            allow_internet_access: view.network.allow_internet_access,
            domain: domain.map(str::to_owned),
            network: view.network.wire.clone(),
            lifecycle: Lifecycle {
                auto_resume: view.facts.auto_resume,
                on_timeout: match view.on_timeout {
                    End::Kill => OnTimeout::Kill,
                    End::Pause { .. } => OnTimeout::Pause,
                },
            },
            pause_mode: view.paused.map(|mode| match mode {
                PauseMode::Full => ShownPauseMode::Full,
                PauseMode::Filesystem => ShownPauseMode::Filesystem,
            }),
        }
    }
}

impl CreateRequest {
    /// What the request asks for, or why it cannot be had.
    pub fn check(
        self,
        version: Version,
        base: Base,
        longest_life: u32,
        default_egress: Verdict,
        services: &Services,
    ) -> Result<Spec, ApiError> {
        let default = match version {
            Version::V1 => 15,
            Version::V2 => 300,
        };
        let timeout = seconds(
            "timeout",
            self.timeout,
            default.min(longest_life),
            1,
            longest_life,
        )?;
        let secure = match (version, self.secure) {
            (Version::V2, Some(false)) => {
                return Err(bad(
                    "secure",
                    "sandboxes of this version are always secured",
                ));
            }
            (Version::V2, _) => true,
            (Version::V1, secure) => secure.unwrap_or(false),
        };
        let network = self.network.unwrap_or_default();
        let options = Options::check(
            &network,
            self.allow_internet_access,
            default_egress,
            services,
        )?;
        if !options.allow_public_traffic && !secure {
            return Err(bad(
                "network.allowPublicTraffic",
                "a sandbox without public traffic must be secure",
            ));
        }
        let auto_resume = self.auto_resume.is_some_and(|auto| auto.enabled);
        let env = self.env_vars.unwrap_or_default();
        let metadata = self.metadata.unwrap_or_default();
        pairs("metadata", &metadata)?;
        pairs("envVars", &env)?;
        if let Some(name) = env
            .keys()
            .find(|name| name.is_empty() || name.contains('='))
        {
            let why = format!("`{}` cannot be the name of a variable", shortened(name));
            return Err(bad("envVars", &why));
        }
        let wire = (network != NetworkRequest::default())
            .then(|| serde_json::to_value(&network).unwrap_or_default());
        let on_timeout = on_timeout(self.auto_pause, self.auto_pause_memory, auto_resume)?;
        let auto_checkpoint = self
            .auto_checkpoint
            .map(AutoCheckpoint::check)
            .transpose()?;
        Ok(Spec {
            template: base.template,
            source: base.source,
            origin: base.origin,
            timeout,
            on_timeout,
            auto_resume,
            auto_checkpoint,
            metadata,
            // As in the guest, where the agent adds what it is told to what it has.
            env: base.env.into_iter().chain(env).collect(),
            secure,
            public: options.allow_public_traffic,
            mask_request_host: options.mask_request_host,
            network: Network {
                policy: options.policy,
                allow_internet_access: self.allow_internet_access,
                wire,
            },
        })
    }

    /// Refuses what this server does not support.
    pub fn refuse_unsupported(&self) -> Result<(), ApiError> {
        let off = |value: &Option<Value>| value.as_ref().is_none_or(is_empty);
        let no_tokens = self
            .iam
            .as_ref()
            .is_none_or(|iam| is_empty(iam) || *iam == serde_json::json!({"tokens": {}}));
        let unsupported = [
            ("mcp", self.mcp.is_some()),
            ("iam", !no_tokens),
            ("volumeMounts", !off(&self.volume_mounts)),
        ];
        if let Some((name, _)) = unsupported.into_iter().find(|(_, asked)| *asked) {
            return Err(ApiError::Option(name));
        }
        Ok(())
    }
}

/// What becomes of a sandbox at the end of its time.
fn on_timeout(
    auto_pause: Option<bool>,
    memory: Option<bool>,
    auto_resume: bool,
) -> Result<End, ApiError> {
    match (auto_pause.unwrap_or(false), memory.unwrap_or(true)) {
        (false, true) => Ok(End::Kill),
        (false, false) => Err(bad(
            "autoPauseMemory",
            "it has a meaning only with autoPause",
        )),
        (true, false) if auto_resume => Err(bad(
            "autoPauseMemory",
            "traffic wakes only sandboxes that are paused with their memory",
        )),
        (true, memory) => Ok(End::Pause { memory }),
    }
}

/// A number of seconds between `least` and `most`.
pub fn seconds(
    name: &'static str,
    value: Option<i64>,
    default: u32,
    least: u32,
    most: u32,
) -> Result<u32, ApiError> {
    match value.map(u32::try_from) {
        None => Ok(default),
        Some(Ok(seconds)) if (least..=most).contains(&seconds) => Ok(seconds),
        Some(_) => {
            let why = format!("it must be a number of seconds from {least} to {most}");
            Err(bad(name, &why))
        }
    }
}

fn pairs(name: &'static str, map: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if map.len() > MAX_PAIRS {
        return Err(bad(name, &format!("it has more than {MAX_PAIRS} members")));
    }
    if map
        .iter()
        .any(|(key, value)| key.contains('\0') || value.contains('\0'))
    {
        return Err(bad(name, "it holds a zero character"));
    }
    Ok(())
}
