//! A shell that knows the words that the suite uses. No program is run: each is a function here.
//!
//! ```text
//!  script  = command { (";" | newline | "&&" | "||" | "&") command }
//!  command = { NAME=value } word { word } [ ">" file | ">>" file | ">&2" ]
//!  word    = text, 'text', "text with $NAME ${NAME} $? $$"
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::User;
use super::probe;
use super::process::{Event, Process};
use super::words::{Joint, printed, split, terminal};
use crate::service::{MARK, Service};
use crate::tree::{Kind, absolute, clean};
use crate::world::{Sandbox, World, lock};

/// Programs that there are.
const PROGRAMS: &[&str] = &[
    "bash", "sh", "echo", "printf", "cat", "pwd", "whoami", "id", "true", "false", "sleep",
    "printenv", "date", "kill", "touch", "mkdir", "ln", "chmod", "rm", "test", "stty", "python3",
];

/// Whether a program is there: by name, or in `/bin` or `/usr/bin`.
pub fn known(cmd: &str) -> bool {
    let name = cmd
        .strip_prefix("/usr/bin/")
        .or_else(|| cmd.strip_prefix("/bin/"))
        .unwrap_or(cmd);
    PROGRAMS.contains(&name)
}

/// Where a command's output goes.
#[derive(Clone, Debug)]
enum Out {
    Std(&'static str),
    File(String),
}

/// A shell at work.
pub struct Shell {
    w: Arc<World>,
    sandbox: Arc<Sandbox>,
    process: Arc<Process>,
    who: User,
    envs: BTreeMap<String, String>,
    cwd: String,
    input: mpsc::UnboundedReceiver<Vec<u8>>,
    /// Input that `read` has not used yet.
    held: Vec<u8>,
    last: i32,
    ended: Option<i32>,
}

type Coming<'a> = Pin<Box<dyn Future<Output = i32> + Send + 'a>>;

impl Shell {
    pub fn new(
        w: Arc<World>,
        sandbox: Arc<Sandbox>,
        process: Arc<Process>,
        who: User,
        envs: BTreeMap<String, String>,
        cwd: String,
        input: mpsc::UnboundedReceiver<Vec<u8>>,
    ) -> Self {
        Self {
            w,
            sandbox,
            process,
            who,
            envs,
            cwd,
            input,
            held: Vec::new(),
            last: 0,
            ended: None,
        }
    }

    /// Runs what a process was started with.
    pub async fn program(&mut self, cmd: &str, args: &[String]) -> i32 {
        let mut words = vec![cmd.rsplit('/').next().unwrap_or(cmd).to_owned()];
        words.extend_from_slice(args);
        self.command(&words, &Out::Std("stdout")).await
    }

    fn write(&self, out: &Out, bytes: &[u8]) {
        match out {
            Out::Std(kind) => {
                let kind = if self.process.pty { "pty" } else { kind };
                let shown = if self.process.pty {
                    terminal(bytes)
                } else {
                    bytes.to_vec()
                };
                let cut = if self.w.on("output-truncated") {
                    shown.len().min(65_536)
                } else {
                    shown.len()
                };
                for piece in shown[..cut].chunks(32 * 1024) {
                    self.process.tell(Event::Data(kind, piece.to_vec()));
                }
            }
            Out::File(path) => {
                let mut tree = lock(&self.sandbox.tree);
                let mut content = tree.read(path).unwrap_or_default();
                content.extend_from_slice(bytes);
                let _ = tree.write(path, content, &self.who.name);
            }
        }
    }

    fn complain(&self, what: &str) -> i32 {
        self.write(&Out::Std("stderr"), format!("{what}\n").as_bytes());
        1
    }

    fn path(&self, path: &str) -> String {
        clean(&absolute(&self.cwd, path))
    }

    /// Runs a script.
    fn script<'a>(&'a mut self, text: &'a str) -> Coming<'a> {
        Box::pin(async move {
            let mut waited = Vec::new();
            let mut before = Joint::Then;
            for (command, after) in split(text) {
                let skip = (before == Joint::And && self.last != 0)
                    || (before == Joint::Or && self.last == 0);
                before = after;
                if self.w.on("unread-output-blocks") && self.process.events.receiver_count() == 0 {
                    std::future::pending::<()>().await;
                }
                if skip || command.trim().is_empty() {
                    continue;
                }
                if after == Joint::Background {
                    let (_, input) = mpsc::unbounded_channel();
                    let mut child = Self {
                        w: Arc::clone(&self.w),
                        sandbox: Arc::clone(&self.sandbox),
                        process: Arc::clone(&self.process),
                        who: self.who.clone(),
                        envs: self.envs.clone(),
                        cwd: self.cwd.clone(),
                        input,
                        held: Vec::new(),
                        last: 0,
                        ended: None,
                    };
                    waited.push(tokio::spawn(async move { child.line(&command).await }));
                } else {
                    self.last = self.line(&command).await;
                }
                if let Some(code) = self.ended {
                    self.last = code;
                    break;
                }
            }
            if self.w.on("grandchild-holds") {
                for child in waited {
                    let _ = child.await;
                }
            }
            self.last
        })
    }

    /// Runs one command as it is written.
    fn line<'a>(&'a mut self, text: &'a str) -> Coming<'a> {
        Box::pin(async move {
            let mut words = self.words(text);
            let mut out = Out::Std("stdout");
            if let Some(at) = words
                .iter()
                .position(|(word, bare)| *bare && word.starts_with('>'))
            {
                let rest: Vec<(String, bool)> = words.drain(at..).collect();
                out = self.redirected(&rest);
            }
            let mut words: Vec<String> = words.into_iter().map(|(word, _)| word).collect();
            while let Some((name, value)) = words.first().and_then(|word| word.split_once('=')) {
                if name.is_empty()
                    || !name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                {
                    break;
                }
                self.envs.insert(name.to_owned(), value.to_owned());
                words.remove(0);
            }
            if words.is_empty() {
                0
            } else {
                self.command(&words, &out).await
            }
        })
    }

    fn redirected(&self, rest: &[(String, bool)]) -> Out {
        let sign = rest.first().map_or("", |(word, _)| word.as_str());
        if sign == ">&2" {
            return Out::Std("stderr");
        }
        let glued = sign.trim_start_matches('>');
        let name = if glued.is_empty() {
            rest.get(1).map_or("", |(word, _)| word.as_str())
        } else {
            glued
        };
        let path = self.path(name);
        if !sign.starts_with(">>") {
            let _ = lock(&self.sandbox.tree).write(&path, Vec::new(), &self.who.name);
        }
        Out::File(path)
    }

    fn command<'a>(&'a mut self, words: &'a [String], out: &'a Out) -> Coming<'a> {
        Box::pin(async move {
            let args: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
            let name = words.first().map_or("", String::as_str);
            match (name.rsplit('/').next().unwrap_or(name), args.as_slice()) {
                ("bash" | "sh", [.., "-c", script]) => self.script(script).await,
                ("bash" | "sh", _) => self.interactive().await,
                ("exit", args) => {
                    let code = args
                        .first()
                        .and_then(|code| code.parse().ok())
                        .unwrap_or(self.last);
                    self.ended = Some(code);
                    code
                }
                ("sleep", [seconds]) => {
                    let seconds: f64 = seconds.parse().unwrap_or(0.0);
                    tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 3_600.0))).await;
                    0
                }
                ("cat", []) => {
                    while let Some(bytes) = self.input.recv().await {
                        self.write(out, &bytes);
                    }
                    0
                }
                ("sudo", ["-n", rest @ ..]) if !self.w.on("no-sudo") => {
                    let Some(root) = super::user(&self.w, "root") else {
                        return 1;
                    };
                    let before = std::mem::replace(&mut self.who, root);
                    let words: Vec<String> = rest.iter().map(|word| (*word).to_owned()).collect();
                    let code = self.command(&words, out).await;
                    self.who = before;
                    code
                }
                ("python3", ["-c", code]) if code.contains("SIGWINCH") => self.sized(out).await,
                ("python3", [file, args @ ..]) if self.is_probe(file) => {
                    match probe::run(&self.w, &self.sandbox, &self.who, args) {
                        Some(seen) => self.write(out, format!("{seen}\n").as_bytes()),
                        None => return 137,
                    }
                    0
                }
                ("read", [name]) => self.read(name).await,
                ("python3", [file, args @ ..]) => self.serve(file, args).await,
                (name, args) => self.simple(name, args, out),
            }
        })
    }

    /// A program in the foreground that tells when the terminal has another size.
    async fn sized(&self, out: &Out) -> i32 {
        let before = *lock(&self.process.size);
        self.write(out, b"ready\n");
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if *lock(&self.process.size) != before && !self.w.on("pty-resize-silent") {
                self.write(out, b"resized\n");
                return 0;
            }
        }
    }

    /// `read`: a line of input into a variable.
    async fn read(&mut self, name: &str) -> i32 {
        loop {
            if let Some(at) = self.held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=at).collect();
                let value = String::from_utf8_lossy(&line[..at]).into_owned();
                self.envs.insert(name.to_owned(), value);
                return 0;
            }
            match self.input.recv().await {
                Some(bytes) => self.held.extend(bytes),
                None => return 1,
            }
        }
    }

    /// Programs that end at once.
    fn simple(&mut self, name: &str, args: &[&str], out: &Out) -> i32 {
        let say = |text: String| {
            self.write(out, text.as_bytes());
            0
        };
        match (name, args) {
            ("true", _) => 0,
            ("false", _) => 1,
            ("echo", ["-n", rest @ ..]) => say(rest.join(" ")),
            ("echo", rest) => say(format!("{}\n", rest.join(" "))),
            ("printf", [format, rest @ ..]) => {
                self.write(out, &printed(format, rest));
                0
            }
            ("date", ["+%s"]) => say(format!("{}\n", self.sandbox.life.clock().as_second())),
            ("pwd", []) => say(format!("{}\n", self.cwd)),
            ("whoami", []) | ("id", ["-un"]) => say(format!("{}\n", self.who.name)),
            ("printenv", [name]) => match self.envs.get(*name) {
                Some(value) => say(format!("{value}\n")),
                None => 1,
            },
            ("export", [pair]) => {
                if let Some((name, value)) = pair.split_once('=') {
                    self.envs.insert(name.to_owned(), value.to_owned());
                }
                0
            }
            ("stty", ["size"]) => {
                let (cols, rows) = *lock(&self.process.size);
                say(format!("{rows} {cols}\n"))
            }
            ("id", ["-G"]) => say(format!("{}\n", self.groups())),
            ("kill", ["-0", pid]) => {
                let pid: u32 = pid.parse().unwrap_or(0);
                if lock(&self.sandbox.processes).contains_key(&pid) {
                    0
                } else {
                    self.complain("no such process")
                }
            }
            ("cat", files) => {
                for file in files {
                    if *file == "/proc/sys/kernel/random/uuid" {
                        let uuid = self.sandbox.guest.uuid(&self.w);
                        self.write(out, format!("{uuid}\n").as_bytes());
                        continue;
                    }
                    let content = lock(&self.sandbox.tree).read(&self.path(file));
                    match content {
                        Ok(content) => self.write(out, &content),
                        Err(error) => return self.complain(&format!("cat: {file}: {error}")),
                    }
                }
                0
            }
            _ => self.on_files(name, args),
        }
    }

    /// Numbers of the user's groups.
    fn groups(&self) -> String {
        let file = lock(&self.sandbox.tree)
            .read("/etc/group")
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&file).into_owned();
        let further = text.lines().filter_map(|line| {
            let mut fields = line.split(':').skip(2);
            let (number, members) = (fields.next()?, fields.next()?);
            let own = members.split(',').any(|name| name == self.who.name);
            (own && !self.w.on("groups-dropped")).then_some(number)
        });
        let all: Vec<&str> = ["1000"].into_iter().chain(further).collect();
        all.join(" ")
    }

    fn on_files(&self, name: &str, args: &[&str]) -> i32 {
        let mut tree = lock(&self.sandbox.tree);
        match (name, args) {
            ("touch", [file]) => {
                let _ = tree.write(&self.path(file), Vec::new(), &self.who.name);
            }
            ("mkdir", ["-p", dir]) => {
                let _ = tree.make_dir(&self.path(dir), &self.who.name, 0o755);
            }
            ("ln", ["-s", to, path]) => tree.link(to, &self.path(path), &self.who.name),
            ("chmod", [mode, file]) => {
                let mode = u32::from_str_radix(mode, 8).unwrap_or(0o644);
                tree.chmod(&self.path(file), mode);
            }
            ("chown", [owner, file]) => {
                let owner = owner.split(':').next().unwrap_or(owner);
                if let Some(node) = tree.get_mut(&self.path(file)) {
                    owner.clone_into(&mut node.owner);
                }
            }
            ("mount", ["-t", "tmpfs", "-o", _, "tmpfs", dir]) => {
                tree.limit(&self.path(dir), 65_536)
            }
            ("rm", ["-f" | "-rf", file]) => tree.remove(&self.path(file)),
            ("test", ["-e", file]) => return i32::from(tree.get(&self.path(file)).is_none()),
            ("test", ["-d", file]) => {
                let is_dir = tree
                    .get(&self.path(file))
                    .is_some_and(|node| node.kind == Kind::Dir);
                return i32::from(!is_dir);
            }
            _ => {
                drop(tree);
                self.complain(&format!("bash: {name}: command not found"));
                return 127;
            }
        }
        0
    }

    fn is_probe(&self, file: &str) -> bool {
        let script = lock(&self.sandbox.tree).read(&self.path(file));
        script.is_ok_and(|script| String::from_utf8_lossy(&script).contains(probe::MARK))
    }

    /// The suite's echo server, known by a line of its source.
    async fn serve(&self, file: &str, args: &[&str]) -> i32 {
        let script = lock(&self.sandbox.tree)
            .read(&self.path(file))
            .unwrap_or_default();
        if !String::from_utf8_lossy(&script).contains(MARK) {
            return self.complain("python3: only the echo server of the suite runs here");
        }
        let port: u16 = args.first().and_then(|port| port.parse().ok()).unwrap_or(0);
        let wait: f64 = args
            .get(2)
            .and_then(|wait| wait.parse().ok())
            .unwrap_or(0.0);
        tokio::time::sleep(Duration::from_secs_f64(wait.clamp(0.0, 60.0))).await;
        let _listening = Listening {
            sandbox: &self.sandbox,
            port,
        };
        let service = Service {
            loopback: args.get(1) == Some(&"127.0.0.1"),
        };
        lock(&self.sandbox.services).insert(port, Arc::new(service));
        std::future::pending().await
    }

    /// A terminal: echoes what is typed, runs each line.
    async fn interactive(&mut self) -> i32 {
        let mut line = Vec::new();
        let mut typed = VecDeque::new();
        self.write(&Out::Std("pty"), b"$ ");
        loop {
            if typed.is_empty() {
                match self.input.recv().await {
                    Some(bytes) => typed.extend(bytes),
                    None => return self.last,
                }
            }
            while let Some(byte) = typed.pop_front() {
                if byte == 4 {
                    return self.last;
                }
                if byte == 3 {
                    line.clear();
                    continue;
                }
                if byte != b'\n' && byte != b'\r' {
                    line.push(byte);
                    self.write(&Out::Std("pty"), &[byte]);
                    continue;
                }
                self.write(&Out::Std("pty"), b"\n");
                let text = String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned();
                self.last = self.foreground(&text, &mut typed).await;
                if let Some(code) = self.ended {
                    return if self.w.on("pty-exit-zero") { 0 } else { code };
                }
                self.write(&Out::Std("pty"), b"$ ");
            }
        }
    }

    /// Runs a line of a terminal, which an interrupt ends; what else is typed meanwhile is for later.
    async fn foreground(&mut self, text: &str, typed: &mut VecDeque<u8>) -> i32 {
        let deaf = self.w.on("pty-interrupt-ignored");
        let (_, none) = mpsc::unbounded_channel();
        let mut input = std::mem::replace(&mut self.input, none);
        let code = {
            let script = self.script(text);
            tokio::pin!(script);
            loop {
                tokio::select! {
                    code = &mut script => break code,
                    Some(bytes) = input.recv() => {
                        if bytes.contains(&3) && !deaf {
                            break 130;
                        }
                        typed.extend(bytes);
                    }
                }
            }
        };
        self.input = input;
        code
    }

    /// The words of a command, and whether each is written without quotes.
    fn words(&self, text: &str) -> Vec<(String, bool)> {
        let mut words = Vec::new();
        let mut word = String::new();
        let (mut begun, mut bare, mut quote) = (false, true, None);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, quote) {
                (c, Some(q)) if c == q => quote = None,
                ('\'' | '"', None) => (begun, bare, quote) = (true, false, Some(c)),
                (c, None) if c.is_whitespace() => {
                    if begun {
                        words.push((std::mem::take(&mut word), bare));
                    }
                    (begun, bare) = (false, true);
                }
                ('$', quote) if quote != Some('\'') => {
                    begun = true;
                    let mut name = String::new();
                    let braced = chars.next_if_eq(&'{').is_some();
                    while let Some(c) =
                        chars.next_if(|c| c.is_ascii_alphanumeric() || "_?$".contains(*c))
                    {
                        name.push(c);
                        if c == '?' || c == '$' {
                            break;
                        }
                    }
                    if braced {
                        chars.next_if_eq(&'}');
                    }
                    word.push_str(&self.variable(&name));
                }
                (c, _) => {
                    begun = true;
                    word.push(c);
                }
            }
        }
        if begun {
            words.push((word, bare));
        }
        words
    }

    fn variable(&self, name: &str) -> String {
        match name {
            "?" => self.last.to_string(),
            "$" => self.process.pid.to_string(),
            name => self.envs.get(name).cloned().unwrap_or_default(),
        }
    }
}

/// A port that is listened on as long as this lives.
struct Listening<'a> {
    sandbox: &'a Sandbox,
    port: u16,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        lock(&self.sandbox.services).remove(&self.port);
    }
}
