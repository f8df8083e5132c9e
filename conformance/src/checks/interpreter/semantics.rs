//! What cells share, and what they do not.

use serde_json::json;

use super::{begun, cell, context, delete, ended, first, inside, ran, says, shown};
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::Sandbox;

pub const CHECKS: &[Check] = &[
    Check::new(
        "interpreter/state",
        &["cells-forget"],
        "Variables live on between cells of a context.",
        |c| Box::pin(state(c)),
    ),
    Check::new(
        "interpreter/apart",
        &["contexts-share"],
        "Contexts do not see each other's variables.",
        |c| Box::pin(apart(c)),
    ),
    Check::new(
        "interpreter/queue",
        &["cells-at-once"],
        "Cells of one context run one after the other.",
        |c| Box::pin(queue(c)),
    ),
    Check::new(
        "interpreter/env",
        &["cell-env-ignored", "cell-env-stays"],
        "env_vars of a call are set for it and restored after.",
        |c| Box::pin(env(c)),
    ),
    Check::new(
        "interpreter/global-env",
        &["cell-without-global-env"],
        "The create's envVars are seen by cells.",
        |c| Box::pin(global_env(c)),
    ),
    Check::new(
        "interpreter/magics",
        &["no-shell-magic"],
        "Lines that begin with ! run a shell command.",
        |c| Box::pin(magics(c)),
    ),
    Check::new(
        "interpreter/await",
        &["no-await"],
        "Top-level await works.",
        |c| Box::pin(awaits(c)),
    ),
    Check::new(
        "interpreter/restart-services",
        &["dead-kernel-stays"],
        "A killed interpreter comes back.",
        |c| Box::pin(comes_back(c)),
    ),
];

async fn state(c: Context) -> Verdict {
    let name = format!("mark_{}", c.unique());
    cell(&c, &format!("{name} = 7")).await?;
    says(&cell(&c, &format!("print({name})")).await?, "7")
}

async fn apart(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let name = format!("mark_{}", c.unique());
    cell(&c, &format!("{name} = 7")).await?;
    let id = context(&c, &sandbox, &json!({})).await?;
    let events = inside(&c, &sandbox, &id, &format!("print({name})")).await;
    let _ = delete(&c, &sandbox, &id).await?;
    let error = first(&events?, "error")?;
    equal("name of the error", &error["name"], &json!("NameError"))
}

async fn queue(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let id = context(&c, &sandbox, &json!({})).await?;
    let slow = "import time\nprint(\"begun\")\ntime.sleep(2)\nmark = 7";
    let body = json!({ "code": slow, "context_id": id });
    let mut lines = begun(&c, &sandbox, &body).await?;
    let begun = lines.value(c.usual()).await?;
    let second = inside(&c, &sandbox, &id, "print(mark)").await;
    let first = ended(&c, &mut lines).await;
    let _ = delete(&c, &sandbox, &id).await?;
    expect(begun.is_some(), "a first line", "none")?;
    first?;
    says(&second?, "7")
}

const MARK: &str = "import os\nprint(os.environ.get(\"MARK\"))";

async fn env(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    // A context of its own: what is left behind is seen by nobody else.
    let id = context(&c, &sandbox, &json!({})).await?;
    let body = json!({ "code": MARK, "context_id": id, "env_vars": { "MARK": "for one" } });
    let with = ran(&c, &sandbox, &body).await;
    let without = inside(&c, &sandbox, &id, MARK).await;
    let _ = delete(&c, &sandbox, &id).await?;
    says(&with?, "for one")?;
    says(&without?, "None")
}

/// A sandbox of the interpreter's template, of the check's own.
async fn own(c: &Context, envs: serde_json::Value) -> Result<Sandbox, Stop> {
    let template = &c.target().interpreter_template;
    c.fresh(json!({ "templateID": template, "envVars": envs }))
        .await
}

async fn global_env(c: Context) -> Verdict {
    let sandbox = own(&c, json!({ "MARK": "from create" })).await?;
    let events = ran(&c, &sandbox, &json!({ "code": MARK })).await?;
    says(&events, "from create")
}

async fn magics(c: Context) -> Verdict {
    says(&cell(&c, "!echo from the shell").await?, "from the shell")
}

async fn awaits(c: Context) -> Verdict {
    let code = "import asyncio\nawait asyncio.sleep(0)\nprint(\"awaited\")";
    says(&cell(&c, code).await?, "awaited")
}

async fn comes_back(c: Context) -> Verdict {
    let sandbox = own(&c, json!({})).await?;
    let kill = json!({ "code": "import os\nos.kill(os.getpid(), 9)" });
    // How the cell that dies ends is not judged, only that it ends.
    let _ = ran(&c, &sandbox, &kill).await;
    let back = || async {
        let events = ran(&c, &sandbox, &json!({ "code": "print(\"back\")" })).await;
        Ok(events.ok().filter(|events| says(events, "back").is_ok()))
    };
    let events = c
        .eventually("a cell that runs", c.limit(10.0), back)
        .await?;
    expect(!events.is_empty(), "events", shown(&events))
}
