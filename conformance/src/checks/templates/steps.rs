//! What the steps of a build do, as a sandbox of the template shows it.

use http::Method;
use serde_json::{Value, json};

use super::context::{packed, upload};
use super::{Built, build, ended, ready, reserved, trigger};
use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::{Context, unique};
use crate::sandbox::Sandbox;

pub const CHECKS: &[Check] = &[
    Check::new(
        "templates/step-run",
        &["step-run-skipped"],
        "RUN runs a command as the current user.",
        |c| Box::pin(holds(c, "/srv/suite/run.txt", "user\n")),
    )
    .slow(),
    Check::new(
        "templates/step-run-user",
        &["step-run-user-ignored"],
        "RUN with a user runs as that user.",
        |c| Box::pin(holds(c, "/srv/suite/root.txt", "root\n")),
    )
    .slow(),
    Check::new(
        "templates/step-unknown-user",
        &["step-unknown-user-words"],
        "RUN as an unknown user fails with the words that SDK tests assert.",
        |c| Box::pin(unknown_user(c)),
    )
    .slow(),
    Check::new(
        "templates/step-copy",
        &["step-copy-owner-ignored", "step-copy-mode-ignored"],
        "COPY puts files with the owner and mode that it says.",
        |c| Box::pin(copy(c)),
    )
    .slow(),
    Check::new(
        "templates/step-workdir",
        &["step-workdir-ignored"],
        "WORKDIR makes the folder and is where later steps run.",
        |c| Box::pin(workdir(c)),
    )
    .slow(),
    Check::new(
        "templates/step-user",
        &["step-user-ignored"],
        "USER is who later steps and sandboxes run as.",
        |c| Box::pin(user(c)),
    )
    .slow(),
    Check::new(
        "templates/step-env",
        &["step-env-ignored"],
        "ENV is seen by later steps and sandboxes.",
        |c| Box::pin(env(c)),
    )
    .slow(),
    Check::new(
        "templates/step-unknown",
        &["step-unknown-ignored"],
        "Another kind of step fails the build.",
        |c| Box::pin(other(c)),
    )
    .slow(),
    Check::new(
        "templates/step-extra-members",
        &["step-extra-refused"],
        "Further members of a step are ignored.",
        |c| Box::pin(extra(c)),
    )
    .slow(),
    Check::new(
        "templates/start-command",
        &["start-command-skipped"],
        "A start command runs already in every new sandbox.",
        |c| Box::pin(start(c)),
    )
    .slow(),
    Check::new(
        "templates/ready-command",
        &["ready-command-ignored"],
        "A build waits for its ready command.",
        |c| Box::pin(waits(c)),
    )
    .slow(),
    Check::new(
        "templates/step-cache",
        &["step-cache-off", "step-force-ignored"],
        "Steps that did not change are taken from the cache unless forced.",
        |c| Box::pin(cache(c)),
    )
    .slow(),
];

/// Port of the server that the start command starts.
const PORT: u16 = 8_090;

/// The server of the start command.
const ECHO: &str = include_str!("../../../assets/echo_server.py");

fn step(kind: &str, args: &[&str]) -> Value {
    json!({ "type": kind, "args": args })
}

/// All kinds of steps; what each left is looked at by its check.
async fn all_steps(c: &Context) -> Result<Built, Stop> {
    let built = reserved(c).await?;
    let (archive, hash) = packed(&[
        ("data.txt", 0o644, b"copied\n"),
        ("echo.py", 0o644, ECHO.as_bytes()),
    ])?;
    upload(c, &built, &archive, &hash).await?;
    let mut copy = step("COPY", &["data.txt", "/srv/suite/data.txt", "root", "0640"]);
    copy["filesHash"] = json!(hash);
    let mut server = step("COPY", &["echo.py", "/srv/suite/echo.py", "", "0644"]);
    server["filesHash"] = json!(hash);
    let start =
        format!("sleep 1; touch /srv/suite/ready; python3 /srv/suite/echo.py {PORT} 0.0.0.0");
    let body = json!({
        "steps": [
            step("RUN", &["mkdir -p /srv/suite && chmod 777 /srv/suite", "root"]),
            step("RUN", &["whoami > /srv/suite/run.txt"]),
            step("RUN", &["whoami > /srv/suite/root.txt", "root"]),
            copy,
            server,
            step("ENV", &["SUITE_VALUE", "from the build"]),
            step("RUN", &["echo $SUITE_VALUE > /srv/suite/env.txt"]),
            step("WORKDIR", &["/srv/suite/work"]),
            step("RUN", &["pwd > /srv/suite/pwd.txt"]),
            step("USER", &["worker"]),
            step("RUN", &["whoami > /srv/suite/worker.txt"]),
        ],
        "startCmd": start,
        "readyCmd": "test -e /srv/suite/ready",
    });
    let blocked = |stop: Stop| stop.blocks("the template with all steps could not be built");
    trigger(c, &built, body)
        .await
        .map_err(blocked)?
        .status(202)
        .map_err(blocked)?;
    let end = ended(c, &built).await.map_err(blocked)?;
    if end["status"] != "ready" {
        return Err(blocked(fail("status ready", end.to_string())));
    }
    Ok(built)
}

/// The template that has all steps.
pub async fn shared(c: &Context) -> Result<Built, Stop> {
    c.built(|| all_steps(c)).await
}

/// A sandbox of a template.
pub async fn of(c: &Context, built: &Built) -> Result<Sandbox, Stop> {
    c.fresh(json!({ "templateID": built.id })).await
}

/// What a command says in a sandbox of the shared template.
async fn said(c: &Context, command: &str) -> Result<String, Stop> {
    let sandbox = of(c, &shared(c).await?).await?;
    Ok(sandbox.run(c, command).await?.out())
}

async fn holds(c: Context, path: &str, content: &str) -> Verdict {
    let seen = said(&c, &format!("cat {path}")).await?;
    equal(&format!("content of {path}"), seen.as_str(), content)
}

async fn copy(c: Context) -> Verdict {
    let sandbox = of(&c, &shared(&c).await?).await?;
    let path = "/srv/suite/data.txt";
    let body = json!({ "path": path });
    let entry = sandbox
        .rpc(&c, "filesystem.Filesystem/Stat", &body)
        .await?
        .status(200)?
        .json()?["entry"]
        .clone();
    equal("owner", &entry["owner"], &json!("root"))?;
    equal("mode", &entry["mode"].as_u64().unwrap_or(0), &0o640)?;
    let done = sandbox
        .run_with(&c, &format!("cat {path}"), json!({}), Some("root"))
        .await?;
    equal("content", done.out().as_str(), "copied\n")
}

async fn workdir(c: Context) -> Verdict {
    let seen = said(
        &c,
        "cat /srv/suite/pwd.txt; test -d /srv/suite/work && echo there",
    )
    .await?;
    equal("the folder", seen.as_str(), "/srv/suite/work\nthere\n")
}

async fn user(c: Context) -> Verdict {
    let seen = said(&c, "cat /srv/suite/worker.txt; whoami").await?;
    equal("the user", seen.as_str(), "worker\nworker\n")
}

async fn env(c: Context) -> Verdict {
    let seen = said(&c, "cat /srv/suite/env.txt; echo $SUITE_VALUE").await?;
    equal(
        "the value",
        seen.as_str(),
        "from the build\nfrom the build\n",
    )
}

async fn unknown_user(c: Context) -> Verdict {
    let body = json!({ "steps": [step("RUN", &["whoami", "root123"])] });
    let (_, end) = build(&c, body).await?;
    equal("status", &end["status"], &json!("error"))?;
    let message = end["reason"]["message"].as_str().unwrap_or("").to_owned();
    let wanted = "failed to run command 'whoami': command failed: unauthenticated: invalid username: 'root123'";
    expect(message.contains(wanted), wanted, message)
}

async fn other(c: Context) -> Verdict {
    let built = reserved(&c).await?;
    let body = json!({ "steps": [step("ONBUILD", &["true"])] });
    let reply = trigger(&c, &built, body).await?;
    if reply.status.as_u16() == 400 {
        return Ok(());
    }
    reply.status(202)?;
    let end = ended(&c, &built).await?;
    equal("status", &end["status"], &json!("error"))
}

async fn extra(c: Context) -> Verdict {
    let mut step = step("RUN", &["true"]);
    for (name, value) in [
        ("forceUpload", json!(true)),
        ("resolveSymlinks", json!(false)),
        ("gzip", json!(true)),
    ] {
        step[name] = value;
    }
    let built = reserved(&c).await?;
    trigger(&c, &built, json!({ "steps": [step] }))
        .await?
        .status(202)?;
    let end = ended(&c, &built).await?;
    equal("status", &end["status"], &json!("ready"))
}

async fn start(c: Context) -> Verdict {
    let sandbox = of(&c, &shared(&c).await?).await?;
    let ask = || async {
        let reply = c.send(sandbox.port(&c, Method::GET, PORT, "/")).await?;
        Ok((reply.status.as_u16() == 200).then_some(()))
    };
    c.eventually(
        "an answer of the start command's server",
        c.limit(10.0),
        ask,
    )
    .await
}

async fn waits(c: Context) -> Verdict {
    let seen = said(&c, "test -e /srv/suite/ready && echo there").await?;
    equal(
        "the file that the ready command waits for, in a new sandbox",
        seen.as_str(),
        "there\n",
    )
}

async fn cache(c: Context) -> Verdict {
    // Not cached from an earlier run.
    let mark = unique();
    let body = |force: bool| {
        let command = format!("cat /proc/sys/kernel/random/uuid > /home/user/{mark}");
        let mut step = step("RUN", &[&command]);
        if force {
            step["force"] = json!(true);
        }
        json!({ "steps": [step] })
    };
    let mut seen = Vec::new();
    for force in [false, false, true] {
        let built = ready(&c, body(force)).await?;
        let sandbox = of(&c, &built).await?;
        let done = sandbox.run(&c, &format!("cat /home/user/{mark}")).await?;
        seen.push(done.out());
    }
    if seen[0].is_empty() {
        return Err(Stop::Untestable("the step left no file".to_owned()));
    }
    equal("what the second build's step left", &seen[1], &seen[0])?;
    expect(
        seen[2] != seen[0],
        "a forced step that ran again",
        "what the first build's step left",
    )
}
