//! Results of cells, by their kinds.

use serde_json::{Value, json};

use super::{cell, first};
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::wire::encode::from_base64;
use crate::wire::reply::text;

pub const CHECKS: &[Check] = &[
    Check::new(
        "interpreter/result",
        &["cell-main-unmarked"],
        "The last expression comes as result with is_main_result.",
        |c| Box::pin(main(c)),
    ),
    Check::new(
        "interpreter/display",
        &["cell-display-as-main"],
        "A display comes as result that is not the main one.",
        |c| Box::pin(display(c)),
    ),
    Check::new(
        "interpreter/html",
        &["html-as-text"],
        "HTML comes as html.",
        |c| Box::pin(html(c)),
    ),
    Check::new(
        "interpreter/json",
        &["value-without-json"],
        "A list or dict result comes as json too.",
        |c| Box::pin(json_value(c)),
    ),
    Check::new(
        "interpreter/data",
        &["frame-without-data"],
        "A DataFrame comes as data, a list for each column.",
        |c| Box::pin(data(c)),
    ),
    Check::new(
        "interpreter/png",
        &["figure-without-png"],
        "A figure comes as png in base64.",
        |c| Box::pin(png(c)),
    ),
    Check::new(
        "interpreter/chart",
        &["figure-without-chart"],
        "A figure comes with chart.",
        |c| Box::pin(chart(c)),
    ),
];

async fn result(c: &Context, code: &str) -> Result<Value, Stop> {
    first(&cell(c, code).await?, "result")
}

async fn main(c: Context) -> Verdict {
    let event = result(&c, "40 + 2").await?;
    equal("text", &event["text"], &json!("42"))?;
    equal("is_main_result", &event["is_main_result"], &json!(true))
}

async fn display(c: Context) -> Verdict {
    let event = result(&c, "display(42)\n\"later\"").await?;
    equal("text", &event["text"], &json!("42"))?;
    expect(
        event["is_main_result"] != true,
        "is_main_result false or absent",
        event.to_string(),
    )
}

async fn html(c: Context) -> Verdict {
    let code = "from IPython.display import HTML\nHTML(\"<b>bold</b>\")";
    let event = result(&c, code).await?;
    equal("html", &event["html"], &json!("<b>bold</b>"))
}

async fn json_value(c: Context) -> Verdict {
    for value in [json!({ "a": [1, 2] }), json!([1, "two"])] {
        let event = result(&c, &value.to_string()).await?;
        equal("json", &event["json"], &value)?;
    }
    Ok(())
}

async fn data(c: Context) -> Verdict {
    let columns = json!({ "a": [1, 2], "b": ["x", "y"] });
    let code = format!("import pandas as pd\npd.DataFrame({columns})");
    let event = result(&c, &code).await?;
    equal("data", &event["data"], &columns)
}

/// The result of a figure with one line.
async fn figure(c: &Context) -> Result<Value, Stop> {
    let code = "import matplotlib.pyplot as plt\n\
                plt.plot([1, 2, 3], [1, 4, 9], label=\"squares\")\n\
                plt.title(\"Squares\")\n\
                plt.show()";
    result(c, code).await
}

async fn png(c: Context) -> Verdict {
    let event = figure(&c).await?;
    let text = text(&event, "png")?;
    let bytes = from_base64(text.trim()).unwrap_or_default();
    expect(
        bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
        "a PNG in base64",
        text.chars().take(60).collect::<String>(),
    )
}

async fn chart(c: Context) -> Verdict {
    let chart = figure(&c).await?["chart"].clone();
    equal("chart.type", &chart["type"], &json!("line"))?;
    equal("chart.title", &chart["title"], &json!("Squares"))?;
    let points = &chart["elements"][0]["points"];
    let first: Vec<f64> = points[0]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .collect();
    equal("first point", &first, &vec![1.0, 1.0])?;
    let count = points.as_array().map_or(0, Vec::len);
    equal("points", &count, &3)
}
