//! Exchanges to a scenario. Knows no clock, socket or file.

use std::collections::{BTreeMap, BTreeSet};

use super::exchange::{Exchange, Kept};
use crate::pure::schedule::Schedule;
use crate::scenario::model::{Reply, Route, Rule, Scenario, Service, When};

/// Longest name of an operation, in bytes, without the number that makes it its own.
const LONGEST_NAME: usize = 60;
/// Most notes; more would be read by nobody.
const MOST_NOTES: usize = 50;

/// A scenario, and what it could not take.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// The scenario.
    pub scenario: Scenario,
    /// What is missing in it, a line each.
    pub notes: Vec<String>,
}

type Query = BTreeMap<String, String>;

/// Calls of one method and path, in their order.
struct Group<'a> {
    method: &'a str,
    path: &'a str,
    calls: Vec<(Query, &'a Kept)>,
}

/// The scenario that answers as it was answered.
pub fn scenario(name: &str, service: &str, exchanges: &[Exchange]) -> Recording {
    let mut places = BTreeMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for exchange in exchanges {
        let (method, path) = (exchange.method.as_str(), exchange.path.as_str());
        let place = *places.entry((method, path)).or_insert_with(|| {
            groups.push(Group {
                method,
                path,
                calls: Vec::new(),
            });
            groups.len() - 1
        });
        let query = exchange.query.iter().cloned().collect();
        groups[place].calls.push((query, &exchange.reply));
    }
    let mut names = BTreeSet::new();
    let mut notes = Vec::new();
    let mut routes = Vec::new();
    for group in &groups {
        let operation = operation(group.method, group.path, &mut names);
        let lost: BTreeSet<String> = group
            .calls
            .iter()
            .filter_map(|(_, kept)| kept.lost)
            .map(|lost| format!("{operation}: a body {lost}, and is left out"))
            .collect();
        notes.extend(lost);
        routes.push(route(operation, group));
    }
    if notes.len() > MOST_NOTES {
        let more = notes.len() - MOST_NOTES;
        notes.truncate(MOST_NOTES);
        notes.push(format!("and {more} more bodies are left out"));
    }
    let service = Service {
        name: service.to_owned(),
        openapi: None,
        credentials: Vec::new(),
        latency: None,
        quota: None,
        routes,
    };
    let scenario = Scenario {
        version: 1,
        name: name.to_owned(),
        seed: 0,
        services: vec![service],
        expectations: Vec::new(),
        agent_env: BTreeMap::new(),
    };
    Recording { scenario, notes }
}

/// A name of its own: the method and the path's letters and digits.
fn operation(method: &str, path: &str, taken: &mut BTreeSet<String>) -> String {
    let mut name = method.to_ascii_lowercase();
    for word in path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        name = name + "_" + word;
    }
    name.truncate(LONGEST_NAME);
    let free = (1_u64..)
        .map(|n| {
            if n == 1 {
                name.clone()
            } else {
                format!("{name}_{n}")
            }
        })
        .find(|name| !taken.contains(name))
        .unwrap_or_default();
    taken.insert(free.clone());
    free
}

fn route(operation: String, group: &Group<'_>) -> Route {
    let mut route = Route::plain(&operation);
    (route.method, route.path) = (Some(group.method.to_owned()), Some(group.path.to_owned()));
    let (_, first) = group.calls[0];
    if group.calls.iter().all(|(_, kept)| same(kept, first)) {
        route.reply = Some(reply(first));
        return route;
    }
    let mut queries: BTreeMap<&Query, Vec<&Kept>> = BTreeMap::new();
    for (query, kept) in &group.calls {
        queries.entry(query).or_default().push(*kept);
    }
    let mut queries: Vec<_> = queries.into_iter().collect();
    // A condition also holds for a query that says more: those that say more come first.
    queries.sort_by_key(|(query, _)| std::cmp::Reverse(query.len()));
    let mut last_without_query = None;
    for (query, replies) in queries {
        let runs = runs(&replies);
        let last = runs.len() - 1;
        for (i, (kept, calls)) in runs.into_iter().enumerate() {
            if i == last && query.is_empty() {
                last_without_query = Some(kept);
                continue;
            }
            let schedule = if i == last {
                Schedule::Always
            } else {
                Schedule::First(calls)
            };
            let when = When {
                query: query.clone(),
                ..When::default()
            };
            route.rules.push(Rule {
                when,
                schedule,
                then_state: None,
                fault: None,
                reply: Some(reply(kept)),
            });
        }
    }
    route.reply = Some(reply(last_without_query.unwrap_or(first)));
    route
}

/// Equal neighbours, and how many there are.
fn runs<'a>(replies: &[&'a Kept]) -> Vec<(&'a Kept, u64)> {
    let mut runs: Vec<(&Kept, u64)> = Vec::new();
    for kept in replies {
        match runs.last_mut() {
            Some((last, calls)) if same(last, kept) => *calls += 1,
            _ => runs.push((kept, 1)),
        }
    }
    runs
}

/// Whether they are written alike.
fn same(a: &Kept, b: &Kept) -> bool {
    (a.status, &a.headers, &a.body) == (b.status, &b.headers, &b.body)
}

fn reply(kept: &Kept) -> Reply {
    Reply {
        status: kept.status,
        headers: kept.headers.clone(),
        body: kept.body.clone(),
        echo: false,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
