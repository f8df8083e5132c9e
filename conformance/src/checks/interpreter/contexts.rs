//! Contexts: creating, listing, deleting, restarting.

use ::http::Method;
use serde_json::{Value, json};

use super::{context, create, delete, execute, first, inside, request, says};
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::reply::text;

pub const CHECKS: &[Check] = &[
    Check::new(
        "interpreter/create-context",
        &["context-without-cwd"],
        "POST /contexts answers id, language and cwd, and cells run there.",
        |c| Box::pin(created(c)),
    ),
    Check::new(
        "interpreter/create-empty",
        &["context-needs-language"],
        "POST /contexts takes an empty object.",
        |c| Box::pin(empty(c)),
    ),
    Check::new(
        "interpreter/list-contexts",
        &["contexts-unsorted"],
        "GET /contexts lists contexts in the order of their creation.",
        |c| Box::pin(listed(c)),
    ),
    Check::new(
        "interpreter/default-contexts",
        &["default-contexts-hidden"],
        "The default contexts are listed.",
        |c| Box::pin(defaults(c)),
    ),
    Check::new(
        "interpreter/delete-context",
        &["context-delete-ignored"],
        "A deleted context is unknown.",
        |c| Box::pin(deleted(c)),
    ),
    Check::new(
        "interpreter/restart-context",
        &["restart-keeps-state", "restart-new-id"],
        "A restart keeps the id and wipes the state.",
        |c| Box::pin(restarted(c)),
    ),
];

async fn list(c: &Context, sandbox: &Sandbox) -> Result<Vec<Value>, Stop> {
    let request = request(c, sandbox, Method::GET, "/contexts");
    c.send(request).await?.status(200)?.array()
}

async fn created(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let body = json!({ "cwd": "/tmp", "language": "python" });
    let body = create(&c, &sandbox, &body).await?.status(200)?.json()?;
    let id = text(&body, "id")?;
    let inside = inside(&c, &sandbox, &id, "import os\nprint(os.getcwd())").await;
    let _ = delete(&c, &sandbox, &id).await?;
    equal("language", &body["language"], &json!("python"))?;
    equal("cwd", &body["cwd"], &json!("/tmp"))?;
    says(&inside?, "/tmp")
}

async fn empty(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let body = create(&c, &sandbox, &json!({}))
        .await?
        .status(200)?
        .json()?;
    let _ = delete(&c, &sandbox, &text(&body, "id")?).await?;
    equal("language", &body["language"], &json!("python"))?;
    equal("cwd", &body["cwd"], &json!("/home/user"))
}

async fn listed(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(context(&c, &sandbox, &json!({})).await?);
    }
    let all = list(&c, &sandbox).await;
    for id in &ids {
        let _ = delete(&c, &sandbox, id).await?;
    }
    let all = all?;
    let ours: Vec<&str> = all
        .iter()
        .filter_map(|one| one["id"].as_str())
        .filter(|id| ids.iter().any(|own| own == id))
        .collect();
    equal(
        "our contexts in the list",
        &ours,
        &ids.iter().map(String::as_str).collect(),
    )
}

async fn defaults(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let all = list(&c, &sandbox).await?;
    for language in ["python", "javascript"] {
        expect(
            all.iter().any(|one| one["language"] == language),
            format!("a context of {language} that nobody created"),
            Value::Array(all.clone()).to_string(),
        )?;
    }
    Ok(())
}

async fn deleted(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let id = context(&c, &sandbox, &json!({})).await?;
    delete(&c, &sandbox, &id).await?.one_of(&[200, 204])?;
    let request = execute(&c, &sandbox, &json!({ "code": "1", "context_id": id }));
    c.send(request).await?.status(404).map(|_| ())
}

async fn restarted(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let id = context(&c, &sandbox, &json!({})).await?;
    inside(&c, &sandbox, &id, "mark = 7").await?;
    let path = format!("/contexts/{id}/restart");
    let request = request(&c, &sandbox, Method::POST, &path);
    c.send(request).await?.one_of(&[200, 204])?;
    let after = inside(&c, &sandbox, &id, "print(mark)").await;
    let _ = delete(&c, &sandbox, &id).await?;
    let error = first(&after?, "error")?;
    equal("name of the error", &error["name"], &json!("NameError"))
}
