//! What the types of a scenario cannot say: ranges, names that must exist, either-or. All that is wrong is found, not the first.

use std::collections::BTreeSet;

use super::expect::Expectation;
use super::model::{Reply, Route, Rule, Scenario, Service};
use crate::pure::latency::LatencyError;
use crate::pure::quota::QuotaError;
use crate::pure::schedule::ScheduleError;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// Of another format.
    #[error("this program reads version 1, not {0}")]
    Version(u32),
    /// A name that cannot be the label of a host name.
    #[error("a name has 1 to 63 lower-case letters, digits and `-`, not `{0}`")]
    Name(String),
    /// The same name twice.
    #[error("`{0}` appears twice")]
    Duplicate(String),
    /// A route without a contract needs both.
    #[error("a route of a service without a contract has a method and a path")]
    NoTarget,
    /// A route of a contract has neither.
    #[error(
        "a route of a service with a contract is found by its operation, without method and path"
    )]
    Target,
    /// Not a token.
    #[error("`{0}` is no method")]
    Method(String),
    /// Not a path.
    #[error("a path begins with `/`, not `{0}`")]
    Path(String),
    /// Not a status of a final reply.
    #[error("a status is between 200 and 599, not {0}")]
    Status(u16),
    /// Not a header.
    #[error("`{0}` is no header")]
    Header(String),
    /// A rule that does nothing, or two things.
    #[error("a rule has either a fault or a reply")]
    FaultOrReply,
    /// A route that can only answer by its contract.
    #[error("a route of a service without a contract has a reply, or loads one")]
    NoReply,
    /// Schedule.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Latency.
    #[error(transparent)]
    Latency(#[from] LatencyError),
    /// Quota.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// An expectation about something that is not there.
    #[error("there is no operation `{0}`")]
    Operation(String),
    /// A secret that nobody has.
    #[error("`{0}` is not in agent_env")]
    Secret(String),
}

type Found = Vec<(String, CheckError)>;

/// All that is wrong with `scenario`, each with the JSON pointer of its place.
pub fn check(scenario: &Scenario) -> Found {
    let mut found = Found::new();
    if scenario.version != 1 {
        found.push(("/version".into(), CheckError::Version(scenario.version)));
    }
    let mut names = BTreeSet::new();
    for (i, service) in scenario.services.iter().enumerate() {
        let at = format!("/services/{i}");
        if !names.insert(&service.name) {
            found.push((
                format!("{at}/name"),
                CheckError::Duplicate(service.name.clone()),
            ));
        }
        check_service(service, &at, &mut found);
    }
    for (i, expectation) in scenario.expectations.iter().enumerate() {
        check_expectation(
            scenario,
            expectation,
            &format!("/expectations/{i}"),
            &mut found,
        );
    }
    found
}

fn check_service(service: &Service, at: &str, found: &mut Found) {
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if service.name.is_empty() || service.name.len() > 63 || !service.name.chars().all(label) {
        found.push((format!("{at}/name"), CheckError::Name(service.name.clone())));
    }
    let mut note = |place: &str, result: Result<(), CheckError>| {
        if let Err(error) = result {
            found.push((format!("{at}/{place}"), error));
        }
    };
    note(
        "latency",
        service
            .latency
            .iter()
            .try_for_each(|it| it.check().map_err(Into::into)),
    );
    note(
        "quota",
        service
            .quota
            .iter()
            .try_for_each(|it| it.limit.check().map_err(Into::into)),
    );
    let mut operations = BTreeSet::new();
    for (i, route) in service.routes.iter().enumerate() {
        let at = format!("{at}/routes/{i}");
        if !operations.insert(&route.operation) {
            found.push((
                format!("{at}/operation"),
                CheckError::Duplicate(route.operation.clone()),
            ));
        }
        check_route(route, service.openapi.is_some(), &at, found);
    }
}

fn check_route(route: &Route, contract: bool, at: &str, found: &mut Found) {
    let mut note = |place: &str, error: CheckError| found.push((format!("{at}{place}"), error));
    match (&route.method, &route.path) {
        (None, None) if contract => {}
        (Some(_), _) | (_, Some(_)) if contract => note("", CheckError::Target),
        (Some(method), Some(path)) => {
            let token = !method.is_empty() && method.chars().all(|c| c.is_ascii_uppercase());
            if !token {
                note("/method", CheckError::Method(method.clone()));
            }
            if !path.starts_with('/') {
                note("/path", CheckError::Path(path.clone()));
            }
        }
        _ => note("", CheckError::NoTarget),
    }
    if !contract && route.reply.is_none() && route.load.is_none() {
        note("", CheckError::NoReply);
    }
    if let Some(Err(error)) = route
        .latency
        .as_ref()
        .map(crate::pure::latency::Latency::check)
    {
        note("/latency", error.into());
    }
    if let Some(Err(error)) = route.quota.as_ref().map(|quota| quota.limit.check()) {
        note("/quota", error.into());
    }
    if let Some(reply) = &route.reply {
        check_reply(reply, &format!("{at}/reply"), found);
    }
    for (i, rule) in route.rules.iter().enumerate() {
        check_rule(rule, &format!("{at}/rules/{i}"), found);
    }
}

fn check_rule(rule: &Rule, at: &str, found: &mut Found) {
    if rule.fault.is_some() == rule.reply.is_some() {
        found.push((at.to_owned(), CheckError::FaultOrReply));
    }
    if let Err(error) = rule.schedule.check() {
        found.push((format!("{at}/schedule"), error.into()));
    }
    if let Some(reply) = &rule.reply {
        check_reply(reply, &format!("{at}/reply"), found);
    }
}

fn check_reply(reply: &Reply, at: &str, found: &mut Found) {
    if !(200..=599).contains(&reply.status) {
        found.push((format!("{at}/status"), CheckError::Status(reply.status)));
    }
    for (name, value) in &reply.headers {
        let good =
            http::HeaderName::try_from(name).is_ok() && http::HeaderValue::try_from(value).is_ok();
        if !good {
            found.push((format!("{at}/headers"), CheckError::Header(name.clone())));
        }
    }
}

fn check_expectation(scenario: &Scenario, expectation: &Expectation, at: &str, found: &mut Found) {
    let known = |name: &str| {
        let (service, operation) = name.split_once('.')?;
        let service = scenario.services.iter().find(|it| it.name == service)?;
        // What a contract describes is known when it has been read.
        let listed = service
            .routes
            .iter()
            .any(|route| route.operation == operation);
        (listed || service.openapi.is_some()).then_some(())
    };
    let operations: Vec<&String> = match expectation {
        Expectation::ContinuesAfterSuccess { after, then } => vec![after, then],
        Expectation::RejectsMalformed { after, acts } => {
            std::iter::once(after).chain(acts).collect()
        }
        Expectation::OnlyAllowedOperations { operations } => operations.iter().collect(),
        Expectation::ApprovalFirst {
            operation,
            issued_by,
            ..
        } => vec![operation, issued_by],
        _ => vec![],
    };
    for operation in operations {
        if known(operation).is_none() {
            found.push((at.to_owned(), CheckError::Operation(operation.clone())));
        }
    }
    if let Expectation::NoSecretsInRequests { secrets } = expectation {
        for secret in secrets {
            if scenario.agent_env.get(secret).is_none_or(String::is_empty) {
                found.push((at.to_owned(), CheckError::Secret(secret.clone())));
            }
        }
    }
}
