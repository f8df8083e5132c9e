//! The control connection: one JSON request a line, answered in order (see [`agent_protocol::control`]).

use std::io;

use agent_protocol::control::{Call, ErrorCode, Freeze, MAX_LINE_LEN, Request, Response, WarmUp};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::task::spawn_blocking;

use crate::machine::MachineError;
use crate::services::Services;

/// Serves requests until the peer closes.
///
/// # Errors
/// Errors of the stream; a line that is too long ends the connection after an error reply.
pub async fn serve<S>(stream: S, services: Services) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(MAX_LINE_LEN).unwrap_or(u64::MAX);
        (&mut stream)
            .take(limit)
            .read_until(b'\n', &mut line)
            .await?;
        if line.is_empty() {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            let message = format!("The line is longer than {MAX_LINE_LEN} bytes or cut short.");
            send(
                &mut stream,
                &Response::error(0, ErrorCode::BadRequest, message),
            )
            .await?;
            return Ok(());
        }
        let response = match Request::parse(&line) {
            Ok(Request {
                id,
                call: Call::Shutdown,
            }) => {
                send(&mut stream, &Response::done(id)).await?;
                let agent = services.agent.clone();
                return spawn_blocking(move || agent.machine.power_off())
                    .await
                    .map_err(Into::into);
            }
            Ok(request) => answer(request, &services).await,
            Err(error) => error.to_response(),
        };
        send(&mut stream, &response).await?;
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, response: &Response) -> io::Result<()> {
    stream.write_all(&response.to_line()?).await?;
    stream.flush().await
}

/// Does what may block on a thread for that.
async fn blocking(
    id: u64,
    work: impl FnOnce() -> Result<(), MachineError> + Send + 'static,
) -> Response {
    match spawn_blocking(work).await {
        Ok(Ok(())) => Response::done(id),
        Ok(Err(error)) => Response::error(id, ErrorCode::Failed, error.to_string()),
        Err(error) => Response::error(id, ErrorCode::Failed, error.to_string()),
    }
}

async fn answer(request: Request, services: &Services) -> Response {
    let Request { id, call } = request;
    let agent = services.agent.clone();
    let answered = match call {
        Call::Hello => Response::ok(id, &agent.hello()),
        Call::Metrics => Response::ok(id, &agent.sampler.read()),
        Call::Configure(configure) => {
            return match spawn_blocking(move || agent.configure(*configure)).await {
                Ok(Ok(())) => {
                    if let Err(error) = services.start_interpreter().await {
                        tracing::warn!(%error, "the code interpreter has no loopback port");
                    }
                    Response::done(id)
                }
                Ok(Err(error)) => Response::error(id, ErrorCode::Failed, error.to_string()),
                Err(error) => Response::error(id, ErrorCode::Failed, error.to_string()),
            };
        }
        Call::WarmUp(WarmUp { depth }) => {
            let warm = services.warm_up(depth).await;
            // What a snapshot of memory holds as unwritten must not depend on the machine's going on.
            let synced = spawn_blocking(move || agent.machine.sync()).await;
            return match (warm, synced) {
                (Ok(()), Ok(())) => Response::done(id),
                (Err(error), _) => Response::error(id, ErrorCode::Failed, error.to_string()),
                (_, Err(error)) => Response::error(id, ErrorCode::Failed, error.to_string()),
            };
        }
        Call::Sync | Call::Shutdown => {
            return blocking(id, move || {
                agent.machine.sync();
                Ok(())
            })
            .await;
        }
        Call::Freeze(Freeze { sync }) => {
            return blocking(id, move || {
                agent.machine.freeze()?;
                if sync {
                    agent.machine.sync();
                }
                Ok(())
            })
            .await;
        }
        Call::Thaw => return blocking(id, move || agent.machine.thaw()).await,
    };
    answered.unwrap_or_else(|error| Response::error(id, ErrorCode::Failed, error.to_string()))
}
