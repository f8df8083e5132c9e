//! What was run, on what, and what measuring cost.

use maud::{Markup, html};

use crate::model::load::Client;
use crate::model::{Body, Environment, Machine, Report, Virtualization};
use crate::render::page::command;
use crate::render::text::{line, mib, ms, percent, short, size};
use crate::stats::float;

pub(super) fn facts<B: Body>(report: &Report<B>) -> Markup {
    let host = report.environment.host.as_ref();
    let lab = host.is_some_and(|host| host.virtualization == Virtualization::Lab);
    html! {
        div.panel {
            p.facts-row {
                span { (report.started_at.strftime("%Y-%m-%d %H:%M UTC")) }
                span { (format!("{:.1}", report.seconds())) " s" }
                span { "template " b { (short(&report.target.template)) } }
                span { (short(&report.target.url)) }
                span {
                    (short(&report.tool.name)) " " (short(&report.tool.version))
                    @if let Some(revision) = &report.tool.git_revision { " (" (short(revision)) ")" }
                }
                @if let Some(seed) = report.seed { span { "seed " (seed) } }
            }
            @if lab {
                p { span.pill.undecided { "lab host" }
                    " Virtualization was emulated in software, 10 to 20 times slower than a processor does it: ratios within this run mean something, its times do not." }
            }
            @if report.interrupted { p { span.pill.undecided { "interrupted" } " Results are missing." } }
            (command(&report.command_line()))
        }
    }
}

/// Both machines.
pub(crate) fn environment(environment: &Environment) -> Markup {
    let machines = [
        ("Measured host", &environment.host),
        ("Client", &environment.client),
    ];
    let same = environment.host.is_some() && environment.host == environment.client;
    html! {
        @if environment.host.is_some() || environment.client.is_some() {
            h3 { "Environment" }
            div.cards {
                @for (name, machine) in machines.into_iter().take(if same { 1 } else { 2 }) {
                    @if let Some(found) = machine {
                        div.card { h4 { (if same { "Host and client" } else { name }) } (facts_of(found)) }
                    }
                }
            }
        }
    }
}

fn facts_of(machine: &Machine) -> Markup {
    let virtualization = match machine.virtualization {
        Virtualization::Hardware => "hardware",
        Virtualization::Lab => "lab (emulated)",
        Virtualization::None => "none",
        Virtualization::Unknown => "not known",
    };
    html! {
        dl {
            dt { "Processor" } dd { (machine.cpus) " × " (short(&machine.cpu)) }
            dt { "Kernel" } dd { (short(&machine.kernel)) }
            dt { "Virtualization" } dd { (virtualization) }
            dt { "Memory" } dd { (size(machine.memory_bytes)) }
            @if let Some(kind) = &machine.file_system { dt { "File system" } dd { (short(kind)) } }
            @if let Some(state) = &machine.cache_state { dt { "Caches" } dd { (line(state)) } }
            @for (name, version) in machine.versions.iter().take(40) { dt { (short(name)) } dd { (short(version)) } }
        }
    }
}

pub(super) fn client(client: &Client) -> Markup {
    let cpu = client.cpu_user_ns.saturating_add(client.cpu_system_ns);
    let share = |ns: u64| {
        let thousandth = |ns: u64| usize::try_from(ns / 1_000).unwrap_or(usize::MAX);
        percent(thousandth(ns), thousandth(client.wall_ns).max(1))
    };
    let delay = |ns: Option<u64>| ns.map_or("–".to_owned(), ms);
    html! {
        h3 { "The client itself" }
        p.facts-row {
            span { b { (share(cpu)) } " of one processor (" (ms(client.cpu_user_ns)) " ms in user space, " (ms(client.cpu_system_ns)) " in the kernel, over " (format!("{:.1}", float(client.wall_ns) / 1e9)) " s)" }
            span { b { (mib(client.rss_peak_bytes)) } " MiB at most" }
            span { "sent late by " b { (delay(client.send_delay_p50_ns)) } " ms at P50, " b { (delay(client.send_delay_p99_ns)) } " at P99" }
            span { b { (delay(client.steal_ns)) } " ms stolen" }
        }
    }
}
