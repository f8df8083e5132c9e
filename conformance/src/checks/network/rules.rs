//! Rules for outgoing requests, and the egress proxy.

use serde_json::{Value, json};

use super::{ALL, closed, opened_by_name, sandbox};
use crate::check::{Check, Verdict, expect};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "network/rules-count",
        &["rules-unlimited"],
        "More than ten domains in rules are a 400.",
        |c| Box::pin(count(c)),
    ),
    Check::new(
        "network/rules-open-nothing",
        &["rules-open"],
        "Rules open nothing.",
        |c| Box::pin(open_nothing(c)),
    ),
    Check::new(
        "network/proxy-password",
        &["proxy-password-given-back"],
        "The password of an egress proxy is never given back.",
        |c| Box::pin(password(c)),
    ),
];

/// Rules that set a header for these domains.
fn rules(domains: &[String]) -> Value {
    let rule = json!([{ "transform": { "headers": { "x-conformance": "set" } } }]);
    let pairs = domains.iter().map(|domain| (domain.clone(), rule.clone()));
    Value::Object(pairs.collect())
}

async fn count(c: Context) -> Verdict {
    let domains: Vec<String> = (0..11)
        .map(|one| format!("host{one}.example.com"))
        .collect();
    let with = |domains: &[String]| json!({ "network": { "rules": rules(domains) } });
    // Ten are taken: a server that refuses all rules knows no such limit.
    c.create(with(&domains[..10])).await?.status(201)?;
    c.create(with(&domains)).await?.refusal(400)?;
    Ok(())
}

async fn open_nothing(c: Context) -> Verdict {
    let outside = &c.target().outside;
    let network = json!({
        "rules": rules(std::slice::from_ref(&outside.second_name)),
        "allowOut": [outside.first_name],
        "denyOut": [ALL],
    });
    let probe = sandbox(&c, json!({ "network": network })).await?;
    opened_by_name(&c).await?;
    closed(&c, &probe, &format!("https://{}", outside.second_name)).await
}

async fn password(c: Context) -> Verdict {
    let secret = format!("secret{}", c.unique());
    let proxy = json!({ "address": "203.0.113.9:1080", "username": "name", "password": secret });
    let reply = c
        .create(json!({ "network": { "egressProxy": proxy } }))
        .await?;
    let silent = |what: &str, text: String| {
        expect(
            !text.contains(&secret),
            format!("{what} without the password"),
            "the password is in it",
        )
    };
    // A server without egress proxies refuses; that must not tell the password either.
    silent("the answer to the create", reply.text())?;
    if !reply.status.is_success() {
        return expect(
            reply.status.is_client_error(),
            "a sandbox, or a refusal of the egress proxy",
            reply.brief(),
        );
    }
    let id = crate::wire::reply::text(&reply.json()?, "sandboxID")?;
    let detail = c.get(&format!("/sandboxes/{id}")).await?;
    silent("the detail", detail.status(200)?.text())?;
    silent("the list", c.get("/v2/sandboxes").await?.text())
}
