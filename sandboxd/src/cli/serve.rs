//! `sandboxd serve`: puts the parts together, runs until told to stop, and leaves nothing behind.
//!
//! ```text
//!   settings ─► folders, lock ─► store, templates ─► network ─► recovery ─► warm templates ─► serve
//!                                                                                       │ SIGTERM, SIGINT
//!   exit 0 ◄─ network, cgroups removed ◄─ sandboxes ended (or kept), pool emptied ◄─ no new requests ◄┘
//! ```

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::control::Network;
use anyhow::{Context, bail};
use rustix::fs::FlockOperation;
use rustix::process::{Resource, Rlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::settings::{NetworkSettings, ServeArgs, Settings, available_memory_mib};
use crate::admission::{Admission, Floor};
use crate::api::auth::KeyRing;
use crate::api::{App, Shared, router};
use crate::egress::guard::Guard;
use crate::egress::{Egress, NoNetwork};
use crate::lifecycle::manager::{Bounds, Manager, Parts};
use crate::lifecycle::{recovery, sampling, warming};
use crate::machine::cgroup::Cgroups;
use crate::machine::layout::Layout;
use crate::machine::microvm::{MicrovmConfig, Microvms};
use crate::proxy::forward::Forwarder;
use crate::proxy::server::{Service, serve};
use crate::services::Services;
use crate::services::front::Front;
use crate::store::Store;
use crate::telemetry::{Telemetry, logging};
use crate::templates::Templates;

/// How long all sandboxes together may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the daemon.
pub fn run(args: ServeArgs) -> anyhow::Result<()> {
    let settings = args.settle()?;
    logging::init(&settings.log, settings.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(daemon(settings))
}

async fn daemon(settings: Settings) -> anyhow::Result<()> {
    // Signals are taken from here on: one that comes during the start is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    private_folder(&settings.state_dir)?;
    private_folder(&settings.run_dir)?;
    let _lock = lock(&settings.state_dir)?;
    raise_descriptor_limit();
    let state_dir = std::fs::canonicalize(&settings.state_dir)?;
    let run_dir = std::fs::canonicalize(&settings.run_dir)?;
    let layout = Layout::new(&run_dir, &state_dir)?;
    private_folder(layout.snapshots_dir())?;
    let store = Store::open(&state_dir)?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let processors = u8::try_from(processors).unwrap_or(u8::MAX);
    let templates = Arc::new(Templates::load(&settings.templates)?.with_at_most(processors));
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("{} cannot be listened on", settings.listen))?;
    let cgroups = match Cgroups::open() {
        Ok(cgroups) => Some(cgroups),
        Err(error) => {
            tracing::warn!(%error, "machines run without host ceilings");
            None
        }
    };
    let egress = egress(
        settings.network.as_ref(),
        settings.limits.sandboxes,
        &state_dir,
    )
    .await?;
    let (dns, services) = settings
        .network
        .map(|network| (network.dns, network.services))
        .unwrap_or_default();
    let fronts = fronts(&services).await?;
    let hypervisor = Microvms::new(
        MicrovmConfig {
            program: settings.microvm,
            kernel: settings.kernel,
            agent_disk: settings.agent_disk,
            overlay_base: settings.overlay_base,
            start_timeout: settings.start_timeout,
            network: Network {
                hosts: services.hosts(),
                ..Network::standard(dns)
            },
        },
        layout,
        cgroups.clone(),
        settings.pool,
    );
    let hypervisor = Arc::new(hypervisor);
    let manager = Manager::new(Parts {
        store: store.clone(),
        hypervisor: hypervisor.clone(),
        egress,
        admission: Admission::new(
            settings.limits,
            settings.memory_floor_mib.map(|keep_mib| Floor {
                keep_mib,
                available_mib: available_memory_mib,
            }),
        ),
        templates: templates.clone(),
        telemetry: Arc::new(Telemetry::default()),
        bounds: Bounds {
            longest_life: settings.max_lifetime,
            connections: settings.max_connections,
        },
    });
    for front in fronts {
        tokio::spawn(front.run(Arc::downgrade(&manager)));
    }
    let recovered = recovery::recover(&manager).await?;
    tracing::info!(?recovered, "recovered");
    let mut told = pin!(async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    });
    let stopped_early = tokio::select! {
        () = warming::warm_all(&manager, &templates), if settings.warm_templates => None,
        told = &mut told, if settings.warm_templates => Some(told),
        else => None,
    };
    tokio::spawn(sampling::run(
        Arc::downgrade(&manager),
        settings.metrics_interval,
    ));
    if store
        .keys()
        .await?
        .iter()
        .all(|key| key.revoked_at.is_some())
    {
        let state_dir = state_dir.display();
        tracing::warn!(
            "no API key exists: make one with `sandboxd key create --state-dir {state_dir}`"
        );
    }
    let app = App::new(Shared {
        manager: manager.clone(),
        templates,
        keys: KeyRing::new(store),
        domain: settings.domain,
        default_egress: settings.default_egress,
        services,
    });
    let service = Service {
        api: router(app),
        forwarder: Forwarder::new(manager.clone()),
    };
    let stop = CancellationToken::new();
    let (told, serving) = match stopped_early {
        Some(told) => {
            warming::abandon(&manager).await;
            (told, None)
        }
        None => {
            tracing::info!(address = %listener.local_addr()?, "listening");
            let serving = tokio::spawn(serve(listener, service, stop.clone()));
            (told.await, Some(serving))
        }
    };
    tracing::info!(told, keep = settings.keep_sandboxes, "stopping");
    stop.cancel();
    tokio::join!(
        manager.shut_down(settings.keep_sandboxes, PATIENCE),
        hypervisor.close()
    );
    if let Some(cgroups) = cgroups.filter(|_| !settings.keep_sandboxes) {
        cgroups.close();
    }
    if let Some(serving) = serving {
        let _ = serving.await;
    }
    tracing::info!("stopped");
    Ok(())
}

async fn egress(
    network: Option<&NetworkSettings>,
    sandboxes: usize,
    state_dir: &Path,
) -> anyhow::Result<Arc<dyn Egress>> {
    let Some(network) = network else {
        return Ok(Arc::new(NoNetwork));
    };
    let guard = Guard::open(
        &network.tap_prefix,
        &network.exempt,
        &network.services,
        sandboxes,
        state_dir,
    )
    .await
    .context(
        "The sandbox network cannot be set up. `sandboxd doctor` says what this host lacks; --no-network runs \
         sandboxes without a network",
    )?;
    Ok(Arc::new(guard))
}

/// Listens at the address of each service, which the host has with the network.
async fn fronts(services: &Services) -> anyhow::Result<Vec<Front>> {
    let mut fronts = Vec::new();
    for service in services.iter() {
        let front = Front::bind(service).await;
        let failed = || format!("the service {service} cannot be listened for");
        fronts.push(front.with_context(failed)?);
        tracing::info!(name = service.name, target = service.target, address = %service.address(), "a service");
    }
    Ok(fronts)
}

/// Makes a folder that only this user can enter.
pub fn private_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("the folder {} cannot be made", path.display()))
}

/// Makes sure that no other daemon uses the state folder. The lock goes with the process, however it ends.
fn lock(state_dir: &Path) -> anyhow::Result<File> {
    let path = state_dir.join("lock");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("the file {} cannot be made", path.display()))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "Another daemon uses the state folder {}: stop it, or name another with --state-dir.",
            state_dir.display()
        );
    }
    Ok(file)
}

/// Each connection through the proxy takes two descriptors, each sandbox a few.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
