//! The server against the documents that it serves, by Schemathesis: whatever is sent, no reply breaks the contract, bad requests are
//! refused and good ones are not. Replies that do break it are found, so a pass means something.

#[path = "common/venv.rs"]
mod venv;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

struct Mock {
    child: Child,
    services: Vec<(String, String)>,
}

impl Mock {
    /// The shipped program with one service for each document, named like it.
    fn start(folder: &Path, documents: &[PathBuf], routes: &str) -> Self {
        let mut text = "version: 1\nname: contracts\nservices:\n".to_owned();
        for document in documents {
            text += &format!(
                "  - {{name: {}, openapi: {:?}, credentials: [{{token: good-token}}], routes: {routes}}}\n",
                document.file_stem().unwrap().to_str().unwrap(),
                document
            );
        }
        let scenario = folder.join("scenario.yaml");
        std::fs::write(&scenario, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mock-apis"))
            .arg("serve")
            .arg(&scenario)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--mcp", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Behind the front's line and the MCP server's.
        let services = (0..documents.len() + 2)
            .map(|_| lines.next().unwrap().unwrap())
            .skip(2)
            .map(|line| {
                let (name, url) = line.split_once(' ').unwrap();
                (name.to_owned(), url.to_owned())
            })
            .collect();
        Self { child, services }
    }

    fn url(&self, document: &Path) -> &str {
        let name = document.file_stem().unwrap().to_str().unwrap();
        let found = self.services.iter().find(|(service, _)| service == name);
        &found.unwrap().1
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same requests each time, all checks, in `folder`, which takes what it writes beside.
fn schemathesis(python: &Path, folder: &Path, document: &Path, url: &str, more: &[&str]) -> Output {
    Command::new(python)
        .args(["-m", "schemathesis.cli", "--no-color", "run"])
        .arg(document)
        .args([
            "--url",
            url,
            "--seed",
            "42",
            "--max-examples",
            "15",
            "--checks",
            "all",
        ])
        .args([
            "--header",
            "Authorization: Bearer good-token",
            "--header",
            "X-Api-Key: good-token",
        ])
        .args(["--request-timeout", "20", "--suppress-health-check", "all"])
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis")
}

#[test]
fn no_shipped_contract_is_broken() {
    let Some(python) = venv::python("schemathesis") else {
        return;
    };
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/openapi");
    let mut documents: Vec<_> = std::fs::read_dir(shipped)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    documents.push(tests().join("wide.yaml"));
    assert!(documents.len() > 3, "{documents:?}");
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(folder.path(), &documents, "[]");
    let (mock, python, folder) = (&mock, &python, folder.path());
    std::thread::scope(|scope| {
        for document in &documents {
            scope.spawn(move || {
                let ran = schemathesis(python, folder, document, mock.url(document), &[]);
                let said = String::from_utf8_lossy(&ran.stdout);
                assert!(ran.status.success(), "{}\n{said}", document.display());
                // Neither an empty run nor one of which most was left out.
                assert!(said.contains("No issues found"), "{said}");
            });
        }
    });
}

#[test]
fn replies_that_break_the_contract_are_found() {
    let Some(python) = venv::python("schemathesis") else {
        return;
    };
    let document = [Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/openapi/flights.yaml")];
    let table = [
        (
            "{status: 200, body: {up: perhaps}}",
            "Response violates schema",
        ),
        ("{status: 418}", "Undocumented status code"),
        (
            "{status: 200, headers: {content-type: text/plain}, body: {up: true}}",
            "Content-Type",
        ),
    ];
    for (reply, found) in table {
        let folder = tempfile::tempdir().unwrap();
        let routes = format!("[{{operation: status, reply: {reply}}}]");
        let mock = Mock::start(folder.path(), &document, &routes);
        let only = ["--include-path", "/status", "--phases", "coverage"];
        let ran = schemathesis(
            &python,
            folder.path(),
            &document[0],
            mock.url(&document[0]),
            &only,
        );
        let said = String::from_utf8_lossy(&ran.stdout).to_lowercase();
        assert_eq!(ran.status.code(), Some(1), "{reply}\n{said}");
        assert!(said.contains(&found.to_lowercase()), "{reply}\n{said}");
    }
}
