//! A sandbox of the target, and requests to what runs in it.

use http::Method;
use serde_json::{Value, json};

use crate::check::{Stop, fail};
use crate::context::Context;
use crate::target::Door;
use crate::wire::connect::{Ending, STREAM_JSON, Stream};
use crate::wire::encode::{from_base64, user};
use crate::wire::envelope;
use crate::wire::reply::{Reply, text};
use crate::wire::request::Request;

/// Port of the agent in a sandbox.
pub const AGENT: u16 = 49_983;

/// A sandbox as its create answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// `clientID`.
    pub client: String,
    /// Token of its agent, where it has one.
    pub token: Option<String>,
    /// Token of its other ports, where it has one.
    pub traffic_token: Option<String>,
    /// Version of its agent.
    pub version: String,
}

/// A process that has ended, with its output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// What its terminal showed.
    pub pty: Vec<u8>,
    /// The `end` event.
    pub end: Value,
    /// Its process id.
    pub pid: u64,
    /// How the stream ended.
    pub code: Option<String>,
}

impl Done {
    /// Standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Exit code; zero when absent, as clients take it.
    #[must_use]
    pub fn exit_code(&self) -> i64 {
        self.end["exitCode"].as_i64().unwrap_or(0)
    }
}

impl Sandbox {
    /// Reads the answer to a create.
    ///
    /// # Errors
    /// When id or version are missing.
    pub fn read(body: &Value) -> Result<Self, Stop> {
        Ok(Self {
            id: text(body, "sandboxID")?,
            client: body["clientID"].as_str().unwrap_or("").to_owned(),
            token: body["envdAccessToken"].as_str().map(str::to_owned),
            traffic_token: body["trafficAccessToken"].as_str().map(str::to_owned),
            version: body["envdVersion"].as_str().unwrap_or("").to_owned(),
        })
    }

    /// A request to a port, without tokens.
    #[must_use]
    pub fn port(&self, c: &Context, method: Method, port: u16, path: &str) -> Request {
        match &c.target().door {
            Door::Shared { url, .. } => Request::new(&c.target().way, method, url, path, c.usual())
                .header("e2b-sandbox-id", self.id.clone())
                .header("e2b-sandbox-port", port.to_string()),
            Door::Names {
                scheme,
                port: own,
                domain,
            } => {
                let own = own.map(|own| format!(":{own}")).unwrap_or_default();
                let origin = format!("{scheme}://{port}-{}.{domain}{own}", self.id);
                Request::new(&c.target().way, method, &origin, path, c.usual())
            }
        }
    }

    /// A request to a port by host name, whatever the door; `suffix` goes behind the id.
    #[must_use]
    pub fn by_name(
        &self,
        c: &Context,
        method: Method,
        port: u16,
        suffix: &str,
        path: &str,
    ) -> Request {
        match &c.target().door {
            Door::Shared { url, domain } => {
                Request::new(&c.target().way, method, url, path, c.usual())
                    .host(format!("{port}-{}{suffix}.{domain}", self.id))
            }
            Door::Names {
                scheme,
                port: own,
                domain,
            } => {
                let own = own.map(|own| format!(":{own}")).unwrap_or_default();
                let origin = format!("{scheme}://{port}-{}{suffix}.{domain}{own}", self.id);
                Request::new(&c.target().way, method, &origin, path, c.usual())
            }
        }
    }

    /// A request to the agent, with the sandbox's token.
    #[must_use]
    pub fn agent(&self, c: &Context, method: Method, path: &str) -> Request {
        let request = self.port(c, method, AGENT, path);
        match &self.token {
            Some(token) => request.header("x-access-token", token.clone()),
            None => request,
        }
    }

    /// A unary call in JSON, as a request that can still be changed.
    #[must_use]
    pub fn call(&self, c: &Context, method: &str, body: &Value) -> Request {
        self.agent(c, Method::POST, &format!("/{method}"))
            .header("connect-protocol-version", "1")
            .json(body)
    }

    /// A unary call in JSON.
    ///
    /// # Errors
    /// When there is no reply.
    pub async fn rpc(&self, c: &Context, method: &str, body: &Value) -> Result<Reply, Stop> {
        c.send(self.call(c, method, body)).await
    }

    /// A server stream in JSON, as a request that can still be changed.
    #[must_use]
    pub fn streaming(&self, c: &Context, method: &str, body: &Value) -> Request {
        self.agent(c, Method::POST, &format!("/{method}"))
            .header("connect-protocol-version", "1")
            .header("content-type", STREAM_JSON)
            .body(envelope::encoded(0, body.to_string().as_bytes()))
    }

    /// Starts a process.
    ///
    /// # Errors
    /// When the stream does not begin.
    pub async fn start(&self, c: &Context, body: &Value) -> Result<Process, Stop> {
        self.started(c, self.streaming(c, "process.Process/Start", body))
            .await
    }

    /// Starts a process by a request that was changed.
    ///
    /// # Errors
    /// When the stream does not begin, or not with a start event.
    pub async fn started(&self, c: &Context, request: Request) -> Result<Process, Stop> {
        let stream = c.stream(request).await?;
        self.follow(c, stream).await
    }

    /// A process from the stream that its start answered.
    ///
    /// # Errors
    /// When the stream does not begin with a start event.
    pub async fn follow(&self, c: &Context, mut stream: Stream) -> Result<Process, Stop> {
        let first = stream.message(c.usual()).await?;
        let Some(first) = first else {
            let (_, ending) = stream.drain(c.usual()).await?;
            return Err(fail(
                "a start event first",
                format!("the stream ended: {ending:?}"),
            ));
        };
        let pid = first["event"]["start"]["pid"]
            .as_u64()
            .ok_or_else(|| fail("a start event with a pid first", first.to_string()))?;
        Ok(Process { stream, pid })
    }

    /// Runs a command line as SDKs do, to its end.
    ///
    /// # Errors
    /// When the process does not start or its stream does not end as it must.
    pub async fn run(&self, c: &Context, command: &str) -> Result<Done, Stop> {
        self.run_with(c, command, json!({}), None).await
    }

    /// The same with further members of the process's configuration, and as another user.
    ///
    /// # Errors
    /// See [`Self::run`].
    pub async fn run_with(
        &self,
        c: &Context,
        command: &str,
        config: Value,
        name: Option<&str>,
    ) -> Result<Done, Stop> {
        let mut request = self.streaming(c, "process.Process/Start", &shell(command, config));
        if let Some(name) = name {
            request = request.header("authorization", user(name));
        }
        self.started(c, request).await?.finish(c).await
    }

    /// Writes a file through the agent, as a means of another check.
    ///
    /// # Errors
    /// Untestable when that fails.
    pub async fn put(&self, c: &Context, path: &str, content: &[u8]) -> Result<(), Stop> {
        let query = format!("/files?path={}", crate::wire::encode::percent(path));
        let request = self
            .agent(c, Method::POST, &query)
            .header("content-type", "application/octet-stream")
            .body(content.to_vec());
        let blocked = |stop: Stop| stop.blocks("a file could not be written");
        c.send(request)
            .await
            .map_err(blocked)?
            .status(200)
            .map_err(blocked)?;
        Ok(())
    }

    /// Reads a file through the agent; any reply is a result.
    ///
    /// # Errors
    /// When there is no reply.
    pub async fn read_file(&self, c: &Context, path: &str) -> Result<Reply, Stop> {
        let query = format!("/files?path={}", crate::wire::encode::percent(path));
        c.send(self.agent(c, Method::GET, &query)).await
    }
}

/// The start request of a command line, as SDKs send it, with further members of its configuration.
#[must_use]
pub fn shell(command: &str, config: Value) -> Value {
    let mut process = json!({ "cmd": "/bin/bash", "args": ["-l", "-c", command] });
    if let Value::Object(config) = config {
        for (name, value) in config {
            process[name] = value;
        }
    }
    json!({ "process": process, "stdin": false })
}

/// A process whose stream is being read.
#[derive(Debug)]
pub struct Process {
    /// The stream, after its start event.
    pub stream: Stream,
    /// Process id.
    pub pid: u64,
}

impl Process {
    /// Reads until the output holds a text.
    ///
    /// # Errors
    /// When the stream ends before, or breaks.
    pub async fn until(&mut self, c: &Context, wanted: &str) -> Result<String, Stop> {
        let mut done = Done::default();
        while let Some(message) = self.stream.message(c.usual()).await? {
            take(&mut done, &message)?;
            let seen = [done.stdout.as_slice(), done.pty.as_slice()].concat();
            let seen = String::from_utf8_lossy(&seen).into_owned();
            if seen.contains(wanted) {
                return Ok(seen);
            }
        }
        Err(fail(
            format!("output with {wanted:?}"),
            format!("the stream ended after {:?}", done.out()),
        ))
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// When the stream breaks or ends without end event.
    pub async fn finish(self, c: &Context) -> Result<Done, Stop> {
        let (done, ending) = self.ended(c).await?;
        if done.end.is_null() {
            return Err(fail(
                "an end event before the stream's end",
                format!("{ending:?}"),
            ));
        }
        Ok(done)
    }

    /// Reads to the end, which may come without end event.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn ended(mut self, c: &Context) -> Result<(Done, Ending), Stop> {
        let mut done = Done {
            pid: self.pid,
            ..Done::default()
        };
        let (messages, ending) = self.stream.drain(c.usual()).await?;
        for message in &messages {
            take(&mut done, message)?;
        }
        done.code.clone_from(&ending.code);
        Ok((done, ending))
    }
}

/// Takes one event in.
fn take(done: &mut Done, message: &Value) -> Result<(), Stop> {
    let event = &message["event"];
    let bytes = |name: &str| -> Result<Vec<u8>, Stop> {
        match event["data"][name].as_str() {
            None => Ok(Vec::new()),
            Some(text) => {
                from_base64(text).ok_or_else(|| fail("output in base64", text.to_owned()))
            }
        }
    };
    if !done.end.is_null() && event["keepalive"].is_null() {
        return Err(fail("nothing after the end event", message.to_string()));
    }
    done.stdout.extend(bytes("stdout")?);
    done.stderr.extend(bytes("stderr")?);
    done.pty.extend(bytes("pty")?);
    if event["end"].is_object() {
        done.end = event["end"].clone();
    }
    Ok(())
}
