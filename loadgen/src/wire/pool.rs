//! Connections that wait for their next request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request};

use super::WireError;
use super::address::Origin;
use super::connection::{Body, Connection};
use super::reply::{Opened, Reply};

/// Most idle connections that are kept for one server.
const MAX_IDLE: usize = 4096;

/// A request before it has a connection.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Method.
    pub method: Method,
    /// Server.
    pub origin: Origin,
    /// Path and query.
    pub path: String,
    /// Headers beside `host`.
    pub headers: Vec<(&'static str, HeaderValue)>,
    /// Body.
    pub body: Bytes,
    /// The longest that the whole exchange may take.
    pub limit: Duration,
    /// The longest body that is taken of the reply.
    pub max_reply: usize,
}

impl Ask {
    fn request(&self) -> Result<Request<Body>, WireError> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path.as_str())
            .header("host", self.origin.authority());
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        Ok(request.body(Body::new(self.body.clone()))?)
    }
}

/// Idle connections by server.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<HashMap<Origin, Vec<Connection>>>,
}

impl Pool {
    fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.get_mut(origin)?;
        // The one used last: it is the least likely to have been closed.
        while let Some(connection) = list.pop() {
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Takes a connection back whose reply was read to its end.
    pub(super) fn put(&self, origin: &Origin, connection: Connection) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.get_mut(origin) {
            Some(list) if list.len() < MAX_IDLE => list.push(connection),
            Some(_) => {}
            None => {
                idle.insert(origin.clone(), vec![connection]);
            }
        }
    }

    /// Closes what is idle to a server that is not going to be asked again, such as a killed sandbox.
    pub fn forget(&self, origin: &Origin) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.remove(origin);
    }

    /// Closes everything that is idle.
    pub fn forget_all(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.clear();
    }

    /// Sends and reads the reply to its end.
    ///
    /// # Errors
    /// See [`WireError`].
    pub async fn exchange(&self, ask: &Ask) -> Result<Reply, WireError> {
        tokio::time::timeout(ask.limit, async {
            let (opened, connection) = self.opened(ask).await?;
            let reply = opened.whole(ask.max_reply).await?;
            self.put(&ask.origin, connection);
            Ok(reply)
        })
        .await
        .map_err(|_| WireError::Late(ask.limit))?
    }

    /// Sends and reads the reply's head; its body is the caller's to read, and to bound in time.
    ///
    /// # Errors
    /// See [`WireError`].
    pub async fn open(&self, ask: &Ask) -> Result<(Opened, Connection), WireError> {
        tokio::time::timeout(ask.limit, self.opened(ask))
            .await
            .map_err(|_| WireError::Late(ask.limit))?
    }

    /// Puts a connection back after its reply, read by the caller, has ended.
    pub fn give_back(&self, ask: &Ask, connection: Connection) {
        self.put(&ask.origin, connection);
    }

    async fn opened(&self, ask: &Ask) -> Result<(Opened, Connection), WireError> {
        let mut kept = self.take(&ask.origin);
        loop {
            let was_kept = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => Connection::open(&ask.origin).await?,
            };
            match connection.send(ask.request()?).await {
                Ok(response) => return Ok((Opened::new(response), connection)),
                Err(error) if was_kept && error.is_canceled() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
