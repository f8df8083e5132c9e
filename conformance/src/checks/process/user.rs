//! What the user of a process may do.

use serde_json::json;

use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "process/groups",
        &["groups-dropped"],
        "A process has the supplementary groups of its user.",
        |c| Box::pin(groups(c)),
    ),
    Check::new(
        "process/sudo",
        &["no-sudo"],
        "The user may use sudo without password.",
        |c| Box::pin(sudo(c)),
    ),
];

async fn groups(c: Context) -> Verdict {
    // Its own sandbox: the group file is everybody's.
    let sandbox = c.fresh(json!({})).await?;
    let enter = "echo conformance:x:7654:user >> /etc/group";
    let done = sandbox.run_with(&c, enter, json!({}), Some("root")).await?;
    if done.exit_code() != 0 {
        return Err(Stop::Untestable("root cannot make a group".to_owned()));
    }
    let done = sandbox.run(&c, "id -G").await?;
    expect(
        done.out().split_whitespace().any(|group| group == "7654"),
        "group 7654 among those of the process",
        done.out(),
    )
}

async fn sudo(c: Context) -> Verdict {
    let done = c.shared().await?.run(&c, "sudo -n id -un").await?;
    equal("sudo -n id -un", done.out().trim(), "root")
}
