//! The lines of a cell.

use serde_json::{Value, json};

use super::{cell, first, printed, shown};
use crate::check::{Check, Verdict, equal, expect};
use crate::context::Context;
use crate::wire::reply::{number, text};

pub const CHECKS: &[Check] = &[
    Check::new(
        "interpreter/count",
        &["cell-count-missing"],
        "number_of_executions has execution_count.",
        |c| Box::pin(count(c)),
    ),
    Check::new(
        "interpreter/stdout",
        &["cell-output-without-timestamp"],
        "Standard output comes as stdout with text and timestamp.",
        |c| Box::pin(stdout(c)),
    ),
    Check::new(
        "interpreter/stderr",
        &["cell-stderr-as-stdout"],
        "Standard error comes as stderr with text and timestamp.",
        |c| Box::pin(stderr(c)),
    ),
    Check::new(
        "interpreter/error",
        &["cell-traceback-as-list"],
        "An exception comes as error with name, value and traceback as text.",
        |c| Box::pin(error(c)),
    ),
    Check::new(
        "interpreter/end",
        &["cell-no-end"],
        "end_of_execution is the last line.",
        |c| Box::pin(end(c)),
    ),
    Check::new(
        "interpreter/keepalive",
        &["cell-no-keepalive"],
        "An idle cell has a keepalive line within five seconds.",
        |c| Box::pin(keepalive(c)),
    )
    .slow(),
];

async fn count(c: Context) -> Verdict {
    let event = first(&cell(&c, "1 + 1").await?, "number_of_executions")?;
    let count = number(&event, "execution_count")?;
    expect(count >= 1, "a count from 1", count.to_string())
}

async fn output(c: &Context, kind: &str, code: &str, wanted: &str) -> Verdict {
    let events = cell(c, code).await?;
    let event = first(&events, kind)?;
    text(&event, "text")?;
    // SDKs need the member; its form differs between versions of the server.
    expect(
        event["timestamp"].is_string() || event["timestamp"].is_number(),
        "member `timestamp`",
        event.to_string(),
    )?;
    equal(kind, printed(&events, kind).as_str(), wanted)
}

async fn stdout(c: Context) -> Verdict {
    output(&c, "stdout", "print(\"to stdout\")", "to stdout\n").await
}

async fn stderr(c: Context) -> Verdict {
    let code = "import sys\nprint(\"to stderr\", file=sys.stderr)";
    output(&c, "stderr", code, "to stderr\n").await
}

async fn error(c: Context) -> Verdict {
    let event = first(&cell(&c, "raise ValueError(\"boom\")").await?, "error")?;
    equal("name", &event["name"], &json!("ValueError"))?;
    equal("value", &event["value"], &json!("boom"))?;
    let trace = text(&event, "traceback")?;
    expect(
        trace.contains("ValueError"),
        "a traceback that names the exception",
        trace,
    )
}

async fn end(c: Context) -> Verdict {
    for code in ["1 + 1", "raise ValueError(\"boom\")"] {
        let events = cell(&c, code).await?;
        let ends = events
            .iter()
            .filter(|event| event["type"] == "end_of_execution");
        let last = events.last().unwrap_or(&Value::Null);
        expect(
            last["type"] == "end_of_execution" && ends.count() == 1,
            "end_of_execution once, as the last line",
            shown(&events),
        )?;
    }
    Ok(())
}

async fn keepalive(c: Context) -> Verdict {
    let events = cell(&c, "import time\ntime.sleep(7)").await?;
    first(&events, "keepalive").map(|_| ())
}
