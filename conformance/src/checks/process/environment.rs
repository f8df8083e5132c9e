//! Environment and working directory.

use serde_json::json;

use crate::check::{Check, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::shell;

pub const CHECKS: &[Check] = &[
    Check::new(
        "process/envs",
        &["envs-dropped"],
        "A command gets its environment.",
        |c| Box::pin(envs(c)),
    ),
    Check::new(
        "process/envs-do-not-leak",
        &["envs-leak"],
        "A command's environment is not seen by later commands.",
        |c| Box::pin(leak(c)),
    ),
    Check::new(
        "process/create-envs",
        &["create-envs-dropped"],
        "The create's envVars are in every command's environment.",
        |c| Box::pin(create_envs(c)),
    ),
    Check::new(
        "process/own-envs-win",
        &["create-env-wins"],
        "A command's own environment goes before the create's.",
        |c| Box::pin(own_win(c)),
    ),
    Check::new(
        "process/sandbox-envs",
        &["no-sandbox-env", "no-sandbox-id-env"],
        "E2B_SANDBOX and E2B_SANDBOX_ID are set.",
        |c| Box::pin(sandbox_envs(c)),
    ),
    Check::new(
        "process/home",
        &["no-home-env", "user-env-root"],
        "HOME and USER are the user's.",
        |c| Box::pin(home(c)),
    ),
    Check::new(
        "process/cwd",
        &["cwd-ignored"],
        "A command runs in its cwd.",
        |c| Box::pin(cwd(c)),
    ),
    Check::new(
        "process/cwd-home",
        &["relative-to-root", "tilde-literal"],
        "A relative cwd and `~` are below the user's home.",
        |c| Box::pin(cwd_home(c)),
    ),
    Check::new(
        "process/default-cwd",
        &["default-cwd-root"],
        "Without cwd a command runs in the user's home.",
        |c| Box::pin(default_cwd(c)),
    ),
    Check::new(
        "process/missing-cwd",
        &["missing-cwd-accepted", "missing-cwd-unnamed"],
        "A cwd that there is not is invalid_argument and named.",
        |c| Box::pin(missing_cwd(c)),
    ),
    Check::new(
        "process/template-env",
        &["no-template-id-env"],
        "E2B_TEMPLATE_ID is the template's id.",
        |c| Box::pin(template_env(c)),
    ),
    Check::new(
        "process/path",
        &["no-path-env", "bare-name-refused"],
        "PATH is set, and programs are found by name.",
        |c| Box::pin(path(c)),
    ),
    Check::new(
        "process/cwd-other-home",
        &["other-tilde-accepted"],
        "A cwd with the tilde of another user is an error.",
        |c| Box::pin(other_home(c)),
    ),
];

async fn envs(c: Context) -> Verdict {
    let config = json!({ "envs": { "MARK": "a b=c" } });
    let done = c
        .shared()
        .await?
        .run_with(&c, "printenv MARK", config, None)
        .await?;
    equal("MARK", done.out().trim_end(), "a b=c")
}

async fn leak(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let name = format!("MARK_{}", c.unique().to_uppercase());
    sandbox
        .run_with(&c, "true", json!({ "envs": { name.clone(): "1" } }), None)
        .await?;
    let done = sandbox.run(&c, &format!("printenv {name}")).await?;
    expect(
        done.out().is_empty(),
        "nothing in the next command",
        done.out(),
    )
}

async fn create_envs(c: Context) -> Verdict {
    let sandbox = c
        .fresh(json!({ "envVars": { "MARK": "from create" } }))
        .await?;
    let done = sandbox.run(&c, "printenv MARK").await?;
    c.done(&sandbox).await;
    equal("MARK", done.out().trim_end(), "from create")
}

async fn own_win(c: Context) -> Verdict {
    let sandbox = c
        .fresh(json!({ "envVars": { "MARK": "from create" } }))
        .await?;
    let config = json!({ "envs": { "MARK": "own" } });
    let done = sandbox.run_with(&c, "printenv MARK", config, None).await?;
    c.done(&sandbox).await;
    equal("MARK", done.out().trim_end(), "own")
}

async fn sandbox_envs(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let done = sandbox
        .run(&c, "printenv E2B_SANDBOX; printenv E2B_SANDBOX_ID")
        .await?;
    equal(
        "both",
        done.out().as_str(),
        format!("true\n{}\n", sandbox.id).as_str(),
    )
}

async fn home(c: Context) -> Verdict {
    let done = c
        .shared()
        .await?
        .run(&c, "printenv HOME; printenv USER")
        .await?;
    equal("both", done.out().as_str(), "/home/user\nuser\n")
}

async fn cwd(c: Context) -> Verdict {
    let done = c
        .shared()
        .await?
        .run_with(&c, "pwd", json!({ "cwd": "/tmp" }), None)
        .await?;
    equal("pwd", done.out().trim_end(), "/tmp")
}

async fn cwd_home(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let name = c.unique();
    sandbox
        .run(&c, &format!("mkdir -p /home/user/{name}"))
        .await?;
    for cwd in [name.clone(), format!("~/{name}")] {
        let done = sandbox
            .run_with(&c, "pwd", json!({ "cwd": cwd }), None)
            .await?;
        equal(
            "pwd",
            done.out().trim_end(),
            format!("/home/user/{name}").as_str(),
        )?;
    }
    Ok(())
}

async fn default_cwd(c: Context) -> Verdict {
    let done = c.shared().await?.run(&c, "pwd").await?;
    equal("pwd", done.out().trim_end(), "/home/user")
}

async fn missing_cwd(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let body = shell("true", json!({ "cwd": "/no/such/folder" }));
    let request = sandbox.streaming(&c, "process.Process/Start", &body);
    let message = super::start::refused(&c, &sandbox, request, "invalid_argument").await?;
    expect(
        message.contains("/no/such/folder"),
        "a message with the folder",
        message,
    )
}

async fn template_env(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let path = format!("/sandboxes/{}", sandbox.id);
    let detail = c.get(&path).await?.status(200)?.json()?;
    let done = sandbox.run(&c, "printenv E2B_TEMPLATE_ID").await?;
    equal(
        "E2B_TEMPLATE_ID",
        &json!(done.out().trim_end()),
        &detail["templateID"],
    )
}

async fn path(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let bare = json!({ "process": { "cmd": "printenv", "args": ["PATH"] }, "stdin": false });
    let done = sandbox.start(&c, &bare).await?.finish(&c).await?;
    expect(
        done.out()
            .split(':')
            .any(|folder| folder.trim() == "/usr/bin"),
        "a PATH with /usr/bin",
        done.out(),
    )
}

async fn other_home(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let body = shell("true", json!({ "cwd": "~nobody-of-this-name/x" }));
    let request = sandbox.streaming(&c, "process.Process/Start", &body);
    super::start::refused(&c, &sandbox, request, "invalid_argument")
        .await
        .map(|_| ())
}
