//! The Connect face of the process service: messages in, messages out; the work is done in the sibling modules.

use std::sync::Arc;
use std::time::Instant;

use buffa::MessageField;
use connectrpc::{
    ConnectError, InboundStream, RequestContext, Response, ServiceRequest, ServiceResult,
    ServiceStream,
};
use futures_util::StreamExt;
use rustix::process::Signal as KernelSignal;

use super::Processes;
use super::follow::{self, Terms};
use super::launch::Streams;
use super::pty::Size;
use super::running::Process;
use crate::errors::Fault;
use crate::proto::process::__buffa::oneof::process_input::Input;
use crate::proto::process::__buffa::oneof::stream_input_request::Event as InputEvent;
use crate::proto::process::{
    CloseStdinRequest, CloseStdinResponse, ConnectRequest, ConnectResponse, ListRequest,
    ListResponse, PTY, Process as ProcessRpc, ProcessInfo, ProcessInput, SendInputRequest,
    SendInputResponse, SendSignalRequest, SendSignalResponse, Signal, StartRequest, StartResponse,
    StreamInputRequest, StreamInputResponse, UpdateRequest, UpdateResponse,
};
use crate::rpc::{self, Caller};
use crate::state::SharedState;

/// Why a request message is refused before any process is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request names no process to start.
    #[error("The request names no process to start.")]
    NoProcess,
    /// The request carries no input.
    #[error("The request carries no input.")]
    NoInput,
    /// The signal is neither SIGTERM nor SIGKILL.
    #[error("The signal is neither SIGNAL_SIGTERM nor SIGNAL_SIGKILL.")]
    BadSignal,
    /// A stream of input begins with something else than `start`.
    #[error("A stream of input begins with `start`.")]
    NoStart,
    /// A stream of input has a second `start`.
    #[error("A stream of input has only one `start`.")]
    SecondStart,
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// The process service.
#[derive(Clone, Debug)]
pub struct ProcessService {
    state: SharedState,
    processes: Arc<Processes>,
}

impl ProcessService {
    /// A service over the given processes.
    #[must_use]
    pub fn new(state: SharedState, processes: Arc<Processes>) -> Arc<Self> {
        Arc::new(Self { state, processes })
    }

    fn terms(ctx: &RequestContext, starter: bool) -> Terms {
        Terms {
            starter,
            deadline: ctx.deadline(),
            keepalive: rpc::keepalive_interval(ctx.headers()),
        }
    }
}

fn fault<E: Into<Fault>>(error: E) -> ConnectError {
    error.into().into()
}

/// A size that the kernel can hold; 0 in a dimension means the default's.
fn size_of(pty: &PTY) -> Size {
    let default = Size::default();
    let clamp = |wish: u32, default: u16| match u16::try_from(wish) {
        Ok(0) => default,
        Ok(wish) => wish,
        Err(_) => u16::MAX,
    };
    match pty.size.as_option() {
        Some(size) => Size {
            cols: clamp(size.cols, default.cols),
            rows: clamp(size.rows, default.rows),
        },
        None => default,
    }
}

async fn write(process: &Process, input: Option<&ProcessInput>) -> Result<(), ConnectError> {
    let input = input.and_then(|input| input.input.as_ref());
    match input {
        Some(Input::Stdin(bytes)) => process.write_stdin(bytes).await.map_err(fault),
        Some(Input::Pty(bytes)) => process.write_pty(bytes).await.map_err(fault),
        None => Err(fault(RequestError::NoInput)),
    }
}

// The generated trait leaves the response body open; here it is always the message itself.
#[allow(refining_impl_trait)]
impl ProcessRpc for ProcessService {
    async fn list(
        &self,
        _ctx: RequestContext,
        _request: ServiceRequest<'_, ListRequest>,
    ) -> ServiceResult<ListResponse> {
        let processes = self.processes.table().running();
        let info = |process: &Arc<Process>| ProcessInfo {
            config: MessageField::some(process.config().clone()),
            pid: process.pid(),
            tag: process.tag().map(str::to_owned),
            ..Default::default()
        };
        Response::ok(ListResponse {
            processes: processes.iter().map(info).collect(),
            ..Default::default()
        })
    }

    async fn start(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, StartRequest>,
    ) -> ServiceResult<ServiceStream<StartResponse>> {
        let caller = Caller::from_context(&self.state, &ctx)?;
        let StartRequest {
            process,
            pty,
            tag,
            stdin,
            ..
        } = request.to_owned_message();
        let config = process
            .into_option()
            .ok_or_else(|| fault(RequestError::NoProcess))?;
        let streams = match pty.as_option() {
            Some(pty) => Streams::Terminal(size_of(pty)),
            None => Streams::Pipes {
                stdin: stdin.unwrap_or(true),
            },
        };
        let terms = Self::terms(&ctx, true);
        // In a task of its own: a client that goes away while the program starts must not leave it without an owner.
        let processes = Arc::clone(&self.processes);
        let deadline: Option<Instant> = terms.deadline;
        let started = tokio::spawn(async move {
            processes
                .start(&caller, config, streams, tag, deadline)
                .await
        });
        let (process, output) = started
            .await
            .map_err(|_| fault(Fault::internal("The agent is shutting down.")))?
            .map_err(fault)?;
        let events = follow::events(process, output, terms).map(|event| {
            event.map(|event| StartResponse {
                event: MessageField::some(event),
                ..Default::default()
            })
        });
        Response::stream_ok(events)
    }

    async fn connect(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ConnectRequest>,
    ) -> ServiceResult<ServiceStream<ConnectResponse>> {
        let request = request.to_owned_message();
        let process = self
            .processes
            .table()
            .find_recent(request.process.as_option())
            .map_err(fault)?;
        let output = process.hub().subscribe().map_err(fault)?;
        let events = follow::events(process, output, Self::terms(&ctx, false)).map(|event| {
            event.map(|event| ConnectResponse {
                event: MessageField::some(event),
                ..Default::default()
            })
        });
        Response::stream_ok(events)
    }

    async fn update(
        &self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, UpdateRequest>,
    ) -> ServiceResult<UpdateResponse> {
        let request = request.to_owned_message();
        let process = self
            .processes
            .table()
            .find(request.process.as_option())
            .map_err(fault)?;
        if let Some(pty) = request.pty.as_option() {
            process.resize(size_of(pty)).map_err(fault)?;
        }
        Response::ok(UpdateResponse::default())
    }

    async fn stream_input(
        &self,
        _ctx: RequestContext,
        mut requests: InboundStream<StreamInputRequest>,
    ) -> ServiceResult<StreamInputResponse> {
        let mut process: Option<Arc<Process>> = None;
        while let Some(request) = requests.next().await {
            let request = request?.to_owned_message();
            match (request.event, &process) {
                (Some(InputEvent::Start(start)), None) => {
                    let table = self.processes.table();
                    process = Some(table.find(start.process.as_option()).map_err(fault)?);
                }
                (Some(InputEvent::Data(data)), Some(process)) => {
                    write(process, data.input.as_option()).await?;
                }
                (Some(InputEvent::Keepalive(_)) | None, _) => {}
                (Some(InputEvent::Start(_)), Some(_)) => {
                    return Err(fault(RequestError::SecondStart));
                }
                (Some(InputEvent::Data(_)), None) => return Err(fault(RequestError::NoStart)),
            }
        }
        Response::ok(StreamInputResponse::default())
    }

    async fn send_input(
        &self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, SendInputRequest>,
    ) -> ServiceResult<SendInputResponse> {
        let request = request.to_owned_message();
        let process = self
            .processes
            .table()
            .find(request.process.as_option())
            .map_err(fault)?;
        write(&process, request.input.as_option()).await?;
        Response::ok(SendInputResponse::default())
    }

    async fn send_signal(
        &self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, SendSignalRequest>,
    ) -> ServiceResult<SendSignalResponse> {
        let request = request.to_owned_message();
        let process = self
            .processes
            .table()
            .find(request.process.as_option())
            .map_err(fault)?;
        let signal = match request.signal.as_known() {
            Some(Signal::SIGNAL_SIGKILL) => KernelSignal::KILL,
            Some(Signal::SIGNAL_SIGTERM) => KernelSignal::TERM,
            Some(Signal::SIGNAL_UNSPECIFIED) | None => return Err(fault(RequestError::BadSignal)),
        };
        process.signal(signal).map_err(fault)?;
        Response::ok(SendSignalResponse::default())
    }

    async fn close_stdin(
        &self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, CloseStdinRequest>,
    ) -> ServiceResult<CloseStdinResponse> {
        let request = request.to_owned_message();
        let process = self
            .processes
            .table()
            .find(request.process.as_option())
            .map_err(fault)?;
        process.close_stdin().await.map_err(fault)?;
        Response::ok(CloseStdinResponse::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::process::pty;

    #[test]
    fn sizes_are_clamped_to_what_the_kernel_holds() {
        let size = |cols, rows| {
            let size = pty::Size {
                cols,
                rows,
                ..Default::default()
            };
            size_of(&PTY {
                size: MessageField::some(size),
                ..Default::default()
            })
        };
        assert_eq!(
            size(100, 40),
            Size {
                cols: 100,
                rows: 40
            }
        );
        assert_eq!(size(0, 40), Size { cols: 80, rows: 40 });
        assert_eq!(
            size(1 << 20, 1),
            Size {
                cols: u16::MAX,
                rows: 1
            }
        );
        assert_eq!(size_of(&PTY::default()), Size::default());
    }
}
