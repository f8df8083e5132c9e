//! Languages: a cell of each.

use serde_json::json;

use super::{ran, says};
use crate::check::{Check, Verdict};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "interpreter/javascript",
        &["no-javascript"],
        "Language javascript runs JavaScript.",
        |c| Box::pin(javascript(c)),
    ),
    Check::new(
        "interpreter/typescript",
        &["no-typescript"],
        "Language typescript runs TypeScript.",
        |c| Box::pin(typescript(c)),
    ),
    Check::new(
        "interpreter/bash",
        &["no-bash-kernel"],
        "Language bash runs a shell.",
        |c| Box::pin(bash(c)),
    ),
    Check::new("interpreter/r", &["no-r"], "Language r runs R.", |c| {
        Box::pin(r(c))
    }),
    Check::new(
        "interpreter/java",
        &["no-java"],
        "Language java runs Java.",
        |c| Box::pin(java(c)),
    ),
];

async fn prints(c: &Context, language: &str, code: &str, wanted: &str) -> Verdict {
    let sandbox = c.interpreter().await?;
    let body = json!({ "code": code, "language": language });
    says(&ran(c, &sandbox, &body).await?, wanted)
}

async fn javascript(c: Context) -> Verdict {
    let code = "console.log(\"js \" + typeof undefined)";
    prints(&c, "javascript", code, "js undefined").await
}

async fn typescript(c: Context) -> Verdict {
    let code = "const word: string = \"typed\"\nconsole.log(word)";
    prints(&c, "typescript", code, "typed").await
}

async fn bash(c: Context) -> Verdict {
    prints(&c, "bash", "echo \"bash $((20 + 1))\"", "bash 21").await
}

async fn r(c: Context) -> Verdict {
    prints(&c, "r", "cat(\"r\", 20 + 1)", "r 21").await
}

async fn java(c: Context) -> Verdict {
    let code = "System.out.println(\"java \" + 21);";
    prints(&c, "java", code, "java 21").await
}
