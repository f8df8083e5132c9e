//! The Connect face of the service.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connectrpc::{
    ConnectError, RequestContext, Response, Router, ServiceRequest, ServiceResult, ServiceStream,
};
use futures_util::stream;
use tokio::sync::mpsc;

use super::list;
use super::operations::{self, Owner};
use super::watch::polled::Registry;
use super::watch::tree::Request as WatchRequest;
use super::watch::{Watcher, blocking};
use crate::errors::{Fault, Kind};
use crate::paths;
use crate::proto::filesystem::watch_dir_response::Event;
use crate::proto::filesystem::{
    CreateWatcherRequest, CreateWatcherResponse, Filesystem, FilesystemExt,
    GetWatcherEventsRequest, GetWatcherEventsResponse, ListDirRequest, ListDirResponse,
    MakeDirRequest, MakeDirResponse, MoveRequest, MoveResponse, RemoveRequest, RemoveResponse,
    RemoveWatcherRequest, RemoveWatcherResponse, StatRequest, StatResponse, WatchDirRequest,
    WatchDirResponse,
};
use crate::rpc::{self, Caller};
use crate::state::SharedState;

/// Messages a watch stream holds for a slow client; beyond, the kernel queues, and then events are lost.
const STREAM_BUFFER: usize = 256;

/// The service. One per agent: it holds the polled watchers.
#[derive(Debug)]
pub struct FilesystemService {
    state: SharedState,
    watchers: Registry,
}

/// Adds the service's calls to `router`.
pub fn register(state: SharedState, router: Router) -> Router {
    Arc::new(FilesystemService::new(state)).register(router)
}

impl FilesystemService {
    /// A service without watchers.
    pub fn new(state: SharedState) -> Self {
        Self {
            state,
            watchers: Registry::default(),
        }
    }

    fn caller(&self, ctx: &RequestContext) -> Result<Caller, ConnectError> {
        Caller::from_context(&self.state, ctx)
    }
}

fn resolve(caller: &Caller, path: &str) -> Result<PathBuf, ConnectError> {
    paths::resolve(
        path,
        &caller.user,
        caller.settings.default_workdir.as_deref(),
    )
    .map_err(|error| Fault::from(error).into())
}

fn owner(caller: &Caller) -> Owner {
    Owner {
        uid: caller.user.uid,
        gid: caller.user.gid,
    }
}

#[expect(refining_impl_trait, reason = "callers only see the generated trait")]
impl Filesystem for FilesystemService {
    async fn stat(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, StatRequest>,
    ) -> ServiceResult<StatResponse> {
        let caller = self.caller(&ctx)?;
        let path = resolve(&caller, request.path)?;
        let entry = blocking(&path.clone(), move || {
            operations::stat(&path, &caller.users)
        })
        .await?;
        Response::ok(StatResponse {
            entry: buffa::MessageField::some(entry.into()),
            ..StatResponse::default()
        })
    }

    async fn make_dir(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, MakeDirRequest>,
    ) -> ServiceResult<MakeDirResponse> {
        let caller = self.caller(&ctx)?;
        let path = resolve(&caller, request.path)?;
        let entry = blocking(&path.clone(), move || {
            operations::make_dir(&path, owner(&caller), &caller.users)
        })
        .await?;
        Response::ok(MakeDirResponse {
            entry: buffa::MessageField::some(entry.into()),
            ..MakeDirResponse::default()
        })
    }

    async fn r#move(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, MoveRequest>,
    ) -> ServiceResult<MoveResponse> {
        let caller = self.caller(&ctx)?;
        let source = resolve(&caller, request.source)?;
        let destination = resolve(&caller, request.destination)?;
        let entry = blocking(&source.clone(), move || {
            operations::rename(&source, &destination, owner(&caller), &caller.users)
        })
        .await?;
        Response::ok(MoveResponse {
            entry: buffa::MessageField::some(entry.into()),
            ..MoveResponse::default()
        })
    }

    async fn list_dir(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListDirRequest>,
    ) -> ServiceResult<ListDirResponse> {
        let caller = self.caller(&ctx)?;
        let path = resolve(&caller, request.path)?;
        let depth = request.depth;
        let entries = blocking(&path.clone(), move || {
            let entries = list::list(&path, depth, &caller.users)?;
            Ok(entries.into_iter().map(Into::into).collect())
        })
        .await?;
        Response::ok(ListDirResponse {
            entries,
            ..ListDirResponse::default()
        })
    }

    async fn remove(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, RemoveRequest>,
    ) -> ServiceResult<RemoveResponse> {
        let caller = self.caller(&ctx)?;
        let path = resolve(&caller, request.path)?;
        blocking(&path.clone(), move || operations::remove(&path)).await?;
        Response::ok(RemoveResponse::default())
    }

    async fn watch_dir(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, WatchDirRequest>,
    ) -> ServiceResult<ServiceStream<WatchDirResponse>> {
        let caller = self.caller(&ctx)?;
        let asked = WatchRequest {
            path: resolve(&caller, request.path)?,
            recursive: request.recursive,
            include_entry: request.include_entry,
        };
        let watcher = Watcher::open(asked, request.allow_network_mounts, caller.users).await?;
        let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
        let keepalive = rpc::keepalive_interval(ctx.headers());
        let deadline = ctx.deadline();
        tokio::spawn(async move {
            // A client that is gone has closed the channel; there is nobody to tell.
            if let Err(error) = stream_events(&watcher, &sender, keepalive, deadline).await {
                let _ = sender.send(Err(error)).await;
            }
        });
        let messages = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|message| (message, receiver))
        });
        Ok(Response::stream(messages))
    }

    async fn create_watcher(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, CreateWatcherRequest>,
    ) -> ServiceResult<CreateWatcherResponse> {
        let caller = self.caller(&ctx)?;
        let asked = WatchRequest {
            path: resolve(&caller, request.path)?,
            recursive: request.recursive,
            include_entry: request.include_entry,
        };
        let allow = request.allow_network_mounts;
        let watcher_id = self.watchers.create(asked, allow, caller.users).await?;
        Response::ok(CreateWatcherResponse {
            watcher_id,
            ..CreateWatcherResponse::default()
        })
    }

    async fn get_watcher_events(
        &self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, GetWatcherEventsRequest>,
    ) -> ServiceResult<GetWatcherEventsResponse> {
        let events = self.watchers.take(request.watcher_id).await?;
        let events = events.into_iter().map(Into::into).collect();
        Response::ok(GetWatcherEventsResponse {
            events,
            ..GetWatcherEventsResponse::default()
        })
    }

    async fn remove_watcher(
        &self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, RemoveWatcherRequest>,
    ) -> ServiceResult<RemoveWatcherResponse> {
        self.watchers.remove(request.watcher_id)?;
        Response::ok(RemoveWatcherResponse::default())
    }
}

/// Start event, then changes, with keep-alives when it is quiet, until the client is gone or its deadline is over.
async fn stream_events(
    watcher: &Watcher,
    sender: &mpsc::Sender<Result<WatchDirResponse, ConnectError>>,
    keepalive: Duration,
    deadline: Option<Instant>,
) -> Result<(), ConnectError> {
    let expired = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    let mut expired = pin!(expired);
    if send(sender, Event::Start(Box::default())).await.is_err() {
        return Ok(());
    }
    // Kept over the turns of the loop: a batch that is being drained must not be dropped.
    let mut next = pin!(watcher.next());
    loop {
        let events = tokio::select! {
            () = sender.closed() => return Ok(()),
            () = &mut expired => {
                let message = "the deadline of the watch has passed";
                return Err(Fault::new(Kind::DeadlineExceeded, message).into());
            }
            events = &mut next => events.map_err(ConnectError::from)?,
            () = tokio::time::sleep(keepalive) => {
                if send(sender, Event::Keepalive(Box::default())).await.is_err() {
                    return Ok(());
                }
                continue;
            }
        };
        next.set(watcher.next());
        for event in events {
            if send(sender, Event::Filesystem(Box::new(event.into())))
                .await
                .is_err()
            {
                return Ok(());
            }
        }
    }
}

async fn send(
    sender: &mpsc::Sender<Result<WatchDirResponse, ConnectError>>,
    event: Event,
) -> Result<(), mpsc::error::SendError<Result<WatchDirResponse, ConnectError>>> {
    sender
        .send(Ok(WatchDirResponse {
            event: Some(event),
            ..WatchDirResponse::default()
        }))
        .await
}
