//! The steps of the scenarios, and the checks that they make: each step times the pins that have its calls.
//!
//! ```text
//!  sdk/python-current/commands-run
//!      pin            topic    name
//! ```

use std::sync::LazyLock;

use super::pins::{Language, Pin, all as pins, named};
use crate::check::Check;

/// One step of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The program that has it.
    pub topic: &'static str,
    /// Its name in the topic.
    pub name: &'static str,
    /// What a conforming server lets a user of an SDK do.
    pub title: &'static str,
    /// Faults that it must catch with each pin that has it.
    pub faults: &'static [&'static str],
    /// Faults of routes that only generation 4 calls.
    new: &'static [&'static str],
    /// Faults of routes that only generations before 4 call.
    old: &'static [&'static str],
    /// Faults that Python's SDK alone notices: it wants every member that the OpenAPI document requires, used or not.
    python: &'static [&'static str],
    /// First generation that has its calls.
    since: u8,
    /// Only in this language.
    only: Option<Language>,
}

impl Step {
    const fn new(
        topic: &'static str,
        name: &'static str,
        title: &'static str,
        faults: &'static [&'static str],
    ) -> Self {
        Self {
            topic,
            name,
            title,
            faults,
            new: &[],
            old: &[],
            python: &[],
            since: 1,
            only: None,
        }
    }

    const fn since(mut self, generation: u8) -> Self {
        self.since = generation;
        self
    }

    const fn only(mut self, language: Language) -> Self {
        self.only = Some(language);
        self
    }

    const fn routes(mut self, old: &'static [&'static str], new: &'static [&'static str]) -> Self {
        self.old = old;
        self.new = new;
        self
    }

    const fn python(mut self, faults: &'static [&'static str]) -> Self {
        self.python = faults;
        self
    }

    /// As scenarios print it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}-{}", self.topic, self.name)
    }

    /// Whether a pin has the calls of this step.
    #[must_use]
    pub fn is_of(&self, pin: &Pin) -> bool {
        pin.generation >= self.since && self.only.is_none_or(|only| only == pin.language)
    }

    /// The faults that it must catch with a pin.
    #[must_use]
    pub fn faults_with(&self, pin: &Pin) -> Vec<&'static str> {
        let routes = if pin.generation >= 4 {
            self.new
        } else {
            self.old
        };
        let strict = match pin.language {
            Python => self.python,
            Language::Js => &[],
        };
        [self.faults, routes, strict].concat()
    }
}

use Language::Python;

/// All steps, by topic in the order of their programs.
pub const STEPS: &[Step] = &[
    Step::new("lifecycle", "create", "A sandbox is created and runs.", &[])
        .python(&["create-omits-client-id"])
        .routes(
            &["create-v1-missing"],
            &["create-v2-missing", "version-too-old"],
        ),
    Step::new(
        "lifecycle",
        "envs",
        "Variables given to create reach commands.",
        &["create-envs-dropped"],
    ),
    Step::new(
        "lifecycle",
        "info",
        "getInfo gives id, template, metadata and times.",
        &["times-as-unix", "metadata-dropped"],
    )
    .since(2),
    Step::new(
        "lifecycle",
        "timeout",
        "setTimeout moves the end, also to earlier.",
        &["timeout-only-extends"],
    )
    .since(2),
    Step::new(
        "lifecycle",
        "list",
        "list finds a sandbox by its metadata.",
        &[],
    )
    .routes(
        &["times-as-unix"],
        &["list-wrapped", "metadata-filter-ignored"],
    ),
    Step::new(
        "lifecycle",
        "pages",
        "list pages.",
        &["no-next-token", "page-repeats", "limit-ignored"],
    )
    .since(3),
    Step::new(
        "lifecycle",
        "connect",
        "connect gives a working handle.",
        &[],
    )
    .routes(&["host-routing-off"], &["connect-needs-timeout"]),
    Step::new(
        "lifecycle",
        "kill",
        "kill gives true, and the sandbox runs no more.",
        &["killed-still-there"],
    ),
    Step::new(
        "lifecycle",
        "kill-false",
        "kill of a dead sandbox gives false.",
        &["second-kill-204"],
    ),
    Step::new(
        "lifecycle",
        "gone",
        "connect to a dead sandbox raises the exception for it.",
        &["missing-410"],
    )
    .since(3),
    Step::new(
        "lifecycle",
        "wrong-key",
        "A wrong key raises the exception for it.",
        &["any-key-accepted", "wrong-key-403"],
    ),
    Step::new(
        "lifecycle",
        "unknown-template",
        "An unknown template raises an exception that says why.",
        &["unknown-template-accepted", "unknown-template-500"],
    ),
    Step::new(
        "commands",
        "run",
        "run gives output and exit code.",
        &["stdout-as-stderr", "no-start-event"],
    ),
    Step::new(
        "commands",
        "exit",
        "A command that fails raises the exception with code and output.",
        &["exit-code-lost", "stderr-as-stdout"],
    ),
    Step::new(
        "commands",
        "background",
        "A background command streams and ends.",
        &["stdout-as-stderr", "no-end-event"],
    ),
    Step::new(
        "commands",
        "timeout",
        "A command past its time-out raises the exception and is killed.",
        &["deadline-leaves-process"],
    ),
    Step::new(
        "commands",
        "cwd",
        "run takes a working directory.",
        &["cwd-ignored"],
    ),
    Step::new(
        "commands",
        "envs",
        "run takes variables.",
        &["envs-dropped"],
    ),
    Step::new(
        "commands",
        "user",
        "run takes a user.",
        &["basic-user-ignored"],
    ),
    Step::new(
        "commands",
        "stdin",
        "Input reaches a command.",
        &["stdin-dropped"],
    ),
    Step::new(
        "commands",
        "close-stdin",
        "closeStdin ends a command's input.",
        &["close-stdin-ignored"],
    )
    .since(4),
    Step::new(
        "commands",
        "list",
        "list shows running commands with their arguments.",
        &["list-empty", "list-without-config"],
    ),
    Step::new(
        "commands",
        "kill",
        "kill ends a command.",
        &["sigkill-ignored"],
    ),
    Step::new(
        "commands",
        "kill-false",
        "kill of no command gives false.",
        &["signal-of-missing-200"],
    ),
    Step::new(
        "commands",
        "connect",
        "connect follows a running command to its end.",
        &["exit-code-lost"],
    ),
    Step::new(
        "files",
        "write",
        "What is written is read.",
        &[
            "write-loses-last-byte",
            "write-keeps-tail",
            "write-no-parents",
        ],
    ),
    Step::new(
        "files",
        "bytes",
        "Bytes come back as they were.",
        &["write-loses-last-byte"],
    ),
    Step::new(
        "files",
        "empty",
        "An empty file is read.",
        &["empty-file-404"],
    ),
    Step::new(
        "files",
        "write-many",
        "Several files are written by one call.",
        &["first-part-only"],
    )
    .since(2),
    Step::new(
        "files",
        "read-missing",
        "Reading a missing file raises the exception for it.",
        &["read-missing-200"],
    ),
    Step::new(
        "files",
        "exists",
        "exists says yes and no.",
        &["stat-missing-internal"],
    ),
    Step::new(
        "files",
        "list",
        "list gives names, types and paths.",
        &["dir-as-file", "list-relative-paths"],
    ),
    Step::new(
        "files",
        "info",
        "getInfo gives size, mode, permissions and owner.",
        &[
            "size-zero",
            "mode-with-type",
            "permissions-missing",
            "owner-as-number",
        ],
    )
    .since(2),
    Step::new(
        "files",
        "rename",
        "rename moves and gives the new entry.",
        &["move-copies", "move-without-entry"],
    ),
    Step::new(
        "files",
        "remove",
        "remove removes with all below.",
        &["remove-ignored"],
    ),
    Step::new(
        "files",
        "make-dir",
        "makeDir gives true, and false where it is there.",
        &["make-dir-existing-200", "make-dir-no-parents"],
    ),
    Step::new(
        "files",
        "user",
        "write takes a user.",
        &["username-ignored"],
    ),
    Step::new(
        "watch",
        "dir",
        "A watch sees creates, writes and removes.",
        &["watch-no-create", "watch-no-write", "watch-no-remove"],
    ),
    Step::new(
        "watch",
        "recursive",
        "A recursive watch sees directories below.",
        &["watch-recursive-flat"],
    )
    .since(2),
    Step::new(
        "watch",
        "missing",
        "A watch of a missing directory raises the exception for it.",
        &["watch-missing-starts"],
    ),
    Step::new(
        "pty",
        "output",
        "A terminal has its size and shows output.",
        &["pty-as-stdout", "pty-size-ignored"],
    ),
    Step::new(
        "pty",
        "resize",
        "A terminal takes a new size.",
        &["pty-resize-ignored"],
    ),
    Step::new(
        "pty",
        "exit",
        "A terminal ends with its shell's exit code.",
        &["pty-exit-zero"],
    ),
    Step::new(
        "killed",
        "during-run",
        "A kill during a command ends it with an exception.",
        &["killed-agent-answers"],
    ),
    // The first Python 1.x fails on its own when a stream is refused.
    Step::new(
        "killed",
        "run-after",
        "A command in a dead sandbox raises the time-out exception.",
        &["dead-sandbox-404"],
    )
    .since(2),
    Step::new(
        "killed",
        "files-after",
        "Reading from a dead sandbox raises the time-out exception.",
        &["dead-sandbox-404"],
    ),
    Step::new(
        "async",
        "run",
        "AsyncSandbox runs commands.",
        &["exit-code-lost", "stdout-as-stderr"],
    )
    .only(Python),
    Step::new(
        "async",
        "background",
        "AsyncSandbox streams.",
        &["stdout-as-stderr"],
    )
    .only(Python),
    Step::new(
        "async",
        "files",
        "AsyncSandbox writes, reads and removes files.",
        &["write-loses-last-byte", "remove-ignored"],
    )
    .only(Python),
    Step::new(
        "async",
        "watch",
        "AsyncSandbox is told of changes.",
        &["watch-no-create"],
    )
    .only(Python),
    Step::new(
        "async",
        "kill",
        "AsyncSandbox kills, and gives false the second time.",
        &["second-kill-204"],
    )
    .only(Python),
    Step::new(
        "pause",
        "pause",
        "A paused sandbox does not run and is shown as paused.",
        &["paused-agent-answers", "paused-state-running"],
    )
    .since(3),
    Step::new(
        "pause",
        "resume",
        "connect resumes with the files of before.",
        &["pause-loses-files"],
    )
    .since(3),
    Step::new(
        "pause",
        "same-handle",
        "A handle of before the pause works after it.",
        &["pause-loses-files"],
    )
    .since(4),
    Step::new(
        "pause",
        "twice",
        "A second pause gives false.",
        &["pause-twice-204"],
    )
    .since(4),
    Step::new(
        "code",
        "result",
        "runCode gives the last expression's value.",
        &["cell-main-unmarked"],
    ),
    Step::new(
        "code",
        "logs",
        "runCode gives what code prints.",
        &["cell-stderr-as-stdout"],
    ),
    Step::new(
        "code",
        "error",
        "runCode gives name and traceback of an exception.",
        &["cell-traceback-as-list"],
    ),
    Step::new(
        "code",
        "state",
        "State stays from one cell to the next.",
        &["cells-forget"],
    ),
    Step::new(
        "code",
        "context",
        "Contexts are apart.",
        &["contexts-share"],
    ),
    Step::new(
        "code",
        "callback",
        "runCode streams what code prints.",
        &["execute-without-newlines"],
    ),
];

/// Checks, made once: ids and faults of checks live as long as the program.
static CHECKS: LazyLock<Vec<Check>> = LazyLock::new(|| {
    let of = |topic: &'static str| STEPS.iter().filter(move |step| step.topic == topic);
    let mut topics: Vec<&'static str> = STEPS.iter().map(|step| step.topic).collect();
    topics.dedup();
    let mut checks = Vec::new();
    for topic in topics {
        for pin in pins() {
            for step in of(topic).filter(|step| step.is_of(pin)) {
                checks.push(check(pin, step));
            }
        }
    }
    checks
});

fn check(pin: &'static Pin, step: &'static Step) -> Check {
    let id: &'static str = format!("sdk/{}/{}", pin.name, step.id()).leak();
    let faults: &'static [&'static str] = step.faults_with(pin).leak();
    let check = Check::new(id, faults, step.title, |c| Box::pin(super::run(c)));
    // Quick runs are those against what most users have.
    if pin.generation >= 4 {
        check
    } else {
        check.slow()
    }
}

/// All SDK checks.
#[must_use]
pub fn checks() -> Vec<Check> {
    CHECKS.clone()
}

/// Pin and step of a check.
#[must_use]
pub fn find(check: &str) -> Option<(&'static Pin, &'static Step)> {
    let (pin, step) = check.strip_prefix("sdk/")?.split_once('/')?;
    let step = STEPS.iter().find(|one| one.id() == step)?;
    Some((named(pin)?, step))
}

/// The pin of a check, if it is an SDK check.
#[must_use]
pub fn pin_of(check: &str) -> Option<&str> {
    check.strip_prefix("sdk/")?.split('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_leads_back_to_its_pin_and_step() {
        let checks = checks();
        assert!(checks.len() > 300, "{}", checks.len());
        for check in &checks {
            let (pin, step) = find(check.id).unwrap();
            assert_eq!(check.id, format!("sdk/{}/{}", pin.name, step.id()));
            assert_eq!(pin_of(check.id), Some(pin.name.as_str()));
            assert!(!check.faults.is_empty(), "{}", check.id);
        }
        assert!(find("sdk/python-current/no-such").is_none());
        assert!(find("process/exit-code").is_none());
    }
}
