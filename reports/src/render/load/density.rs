//! Memory by number of live sandboxes, and what was left behind.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::model::load::{Activity, Density, DensityRow, Leak, StopReason};
use crate::model::peers::ArmMemory;
use crate::render::chart::{Axis, Line, Plot, class, colour, figure};
use crate::render::page::{stacked, table};
use crate::render::text::{line, ms, short, signed_mib, size, whole};
use crate::stats::float;

/// Rows that are shown.
const ROWS: usize = 500;

type Measure = (&'static str, fn(&DensityRow) -> Option<i64>);

/// What a reading has, in the order of the table.
const MEASURES: [Measure; 6] = [
    ("VMM PSS", |row| signed(row.vmm_pss_bytes)),
    ("process PSS", |row| signed(row.pss_bytes)),
    ("private dirty", |row| signed(row.private_dirty_bytes)),
    ("cgroup", |row| signed(row.cgroup_bytes)),
    ("MemAvailable delta", |row| row.available_delta_bytes),
    ("guest used", |row| signed(row.guest_used_bytes)),
];

fn signed(bytes: Option<u64>) -> Option<i64> {
    i64::try_from(bytes?).ok()
}

fn activity(activity: &Activity) -> &str {
    match activity {
        Activity::Idle => "idle",
        Activity::After(what) => what,
    }
}

pub(super) fn density(found: &Density) -> Markup {
    let rows = &found.rows[..found.rows.len().min(ROWS)];
    let mut by_activity: BTreeMap<&str, Vec<&DensityRow>> = BTreeMap::new();
    for row in rows {
        by_activity
            .entry(activity(&row.activity))
            .or_default()
            .push(row);
    }
    let reason = match found.stop.reason {
        StopReason::Asked => "as many as asked for",
        StopReason::Memory => "memory ran short",
        StopReason::BoundMissed => "an answer came too late",
        StopReason::Refused => "the target made no more",
        StopReason::Cut => "the run was cut short",
    };
    html! {
        h3 { "Density" }
        p {
            "Ended because " b { (reason) } ": " (line(&found.stop.detail)) ". A sandbox counts while it answers a command within "
            (ms(found.answer_bound_ns)) " ms."
            @if let Some(bytes) = found.guest_memory_bytes { " Each guest was given " (size(bytes)) "." }
        }
        @for (activity, rows) in &by_activity {
            h4 { (short(activity)) }
            @if rows.len() > 1 {
                div.panel { (figure(&curve(rows), "Memory of one sandbox by how many live.", &legend(rows))) }
            }
            @let cells: Vec<Vec<Markup>> = rows.iter().map(|row| reading(&whole(row.live), row)).collect();
            (stacked(&format!("Memory by number of live sandboxes, {}", short(activity)), &head("live"), &cells))
        }
        p.dim { "MiB for one sandbox, means over all that live. VMM PSS leaves guest memory out; MemAvailable delta is what the whole host lost, divided." }
    }
}

fn head(first: &'static str) -> Vec<&'static str> {
    let names = MEASURES.iter().map(|(name, _)| *name);
    let after = ["answer P50 ms", "slowest ms", "silent"];
    [first].into_iter().chain(names).chain(after).collect()
}

fn reading(first: &str, row: &DensityRow) -> Vec<Markup> {
    let time = |ns: Option<u64>| ns.map_or("–".to_owned(), ms);
    let sizes = MEASURES
        .iter()
        .map(|(_, of)| of(row).map_or("–".to_owned(), signed_mib));
    let after = [
        time(row.answer_p50_ns),
        time(row.answer_max_ns),
        whole(row.silent),
    ];
    let cells = [first.to_owned()].into_iter().chain(sizes).chain(after);
    cells.map(|cell| html! { (short(&cell)) }).collect()
}

fn present<'a>(rows: &'a [&DensityRow]) -> impl Iterator<Item = Measure> + 'a {
    MEASURES
        .into_iter()
        .filter(|(_, of)| rows.iter().filter(|row| of(row).is_some()).count() > 1)
}

fn legend(rows: &[&DensityRow]) -> Vec<(String, &'static str)> {
    present(rows)
        .enumerate()
        .map(|(index, (name, _))| (class(index), name))
        .collect()
}

fn curve(rows: &[&DensityRow]) -> Plot {
    let mib = |bytes: i64| {
        let size = float(bytes.unsigned_abs()) / f64::from(1 << 20);
        if bytes < 0 { -size } else { size }
    };
    let lines: Vec<Line> = present(rows)
        .enumerate()
        .map(|(index, (_, of))| Line {
            points: rows
                .iter()
                .filter_map(|row| Some((float(row.live), mib(of(row)?))))
                .collect(),
            colour: colour(index),
            faint_from: None,
            dots: true,
            open: Vec::new(),
            gap: None,
        })
        .collect();
    let values: Vec<f64> = lines
        .iter()
        .flat_map(|line| line.points.iter().map(|(_, y)| *y))
        .collect();
    Plot {
        x: Axis::wide(
            "live sandboxes",
            rows.iter().map(|row| float(row.live)),
            12.0,
            8,
        ),
        y: Axis::linear("MiB for one", values.into_iter(), 6),
        lines,
        columns: Vec::new(),
        tall: 1.0,
        half: false,
    }
}

/// Memory of arms side by side.
pub(super) fn memory(all: &[ArmMemory]) -> Markup {
    html! {
        @if !all.is_empty() {
            h3 { "Memory" }
            @let cells: Vec<Vec<Markup>> = all.iter().take(ROWS).map(|one| reading(&format!("{} × {}", one.arm, one.reading.live), &one.reading)).collect();
            (stacked("Memory of arms", &head("arm × live machines"), &cells))
            p.dim { "MiB for one machine, means over all that live." }
        }
    }
}

/// What was there before, and after.
pub(super) fn leaks(all: &[Leak]) -> Markup {
    html! {
        h3 { "Leaks" }
        (table("What was left behind", html! {
            thead { tr {
                th scope="col" { "What" } th.num scope="col" { "before" } th.num scope="col" { "at most" } th scope="col" { "after" }
            } }
            tbody { @for leak in all.iter().take(100) {
                tr {
                    th scope="row" { (short(&leak.what)) }
                    td.num { (whole(leak.before)) } td.num { (leak.peak.map_or("–".to_owned(), whole)) }
                    td {
                        (whole(leak.after)) " "
                        @if leak.after <= leak.before { span.pill.pass { "✓ back" } }
                        @else { span.pill.fail { "✕ " (whole(leak.after - leak.before)) " left" } }
                    }
                }
            } }
        }))
    }
}
