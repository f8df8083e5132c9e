//! From reports to pages, tables and badges.
//!
//! ```text
//!  out/index.html                      every run
//!  out/load.html, conformance.html,    one page per kind that there is
//!      peers.html, verdicts.html
//!  out/report.md                       the same figures as Markdown
//!  out/series.csv, checks.csv          and as tables, one line per series or check
//!      density.csv
//!  out/badge-<target>.svg              one per conformance report
//! ```
//!
//! Each page is one file that needs nothing else.

pub mod chart;
pub mod conformance;
pub mod csv;
pub mod index;
pub mod load;
pub mod markdown;
pub mod page;
pub mod text;
pub mod verdicts;

use std::collections::BTreeSet;
use std::path::Path;

use maud::{Markup, html};

use self::page::Page;
use crate::folder::{self, AnyReport, FolderError};
use crate::model::conformance::ConformanceReport;
use crate::model::{Load, Peers, Report, Target, Verdicts};

/// A report with the name of its folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Name of the folder: differs from report to report.
    pub name: String,
    /// The report.
    pub report: AnyReport,
}

/// What people call a target.
#[must_use]
pub fn target(target: &Target) -> &str {
    target.name.as_deref().unwrap_or(&target.url)
}

/// The page of a conformance report alone, as the suite writes it beside the report.
#[must_use]
pub fn conformance_page(report: &ConformanceReport) -> String {
    let columns = conformance::columns(&[(report.run.clone(), report)]);
    Page {
        title: "E2B conformance",
        lead: html! { "What a server that speaks the E2B API must do, and what " b { (text::short(target(&report.target))) } " does." },
        nav: &[],
        file: "report.html",
        main: conformance::main(&columns),
    }
    .html()
}

/// All files of a site by name.
#[must_use]
pub fn site(reports: &[Loaded]) -> Vec<(String, String)> {
    let mut kinds = Kinds::default();
    for loaded in reports {
        let name = loaded.name.clone();
        match &loaded.report {
            AnyReport::Load(report) => kinds.load.push((name, report)),
            AnyReport::Conformance(report) => kinds.conformance.push((name, report)),
            AnyReport::Verdicts(report) => kinds.verdicts.push((name, report)),
            AnyReport::Peers(report) => kinds.peers.push((name, report)),
        }
    }
    let mut files = kinds.pages(reports);
    files.push(("report.md".to_owned(), markdown::page(reports)));
    files.extend(csv::files(reports));
    files
}

/// Reports by kind, in the order of asking.
#[derive(Default)]
struct Kinds<'a> {
    load: Vec<(String, &'a Report<Load>)>,
    conformance: Vec<(String, &'a ConformanceReport)>,
    verdicts: Vec<(String, &'a Report<Verdicts>)>,
    peers: Vec<(String, &'a Report<Peers>)>,
}

impl Kinds<'_> {
    fn pages(&self, reports: &[Loaded]) -> Vec<(String, String)> {
        let mut pages: Vec<(&str, &str, &str, &str, Markup)> = Vec::new();
        pages.push((
            "index.html",
            "Runs",
            "Runs",
            "What was measured and tested, with the command that makes each run again.",
            index::main(reports),
        ));
        if !self.conformance.is_empty() {
            pages.push((
                "conformance.html",
                "Conformance",
                "E2B conformance",
                "What a server that speaks the E2B API must do, and which target does it.",
                conformance::main(&conformance::columns(&self.conformance)),
            ));
        }
        if !self.load.is_empty() {
            pages.push((
                "load.html",
                "Load",
                "Load",
                "Times from the planned send, failures beside them, quantiles with their intervals.",
                load::main(&self.load),
            ));
        }
        if !self.peers.is_empty() {
            pages.push((
                "peers.html",
                "Peers",
                "Peers",
                "Others on the same host, in the same run, taking turns.",
                load::peers(&self.peers),
            ));
        }
        if !self.verdicts.is_empty() {
            pages.push((
                "verdicts.html",
                "Agents",
                "Agents against mock services",
                "What agents did when their tools failed them.",
                verdicts::main(&self.verdicts),
            ));
        }
        let nav: Vec<(&str, &str)> = pages.iter().map(|page| (page.0, page.1)).collect();
        let mut files: Vec<(String, String)> = pages
            .iter()
            .map(|(file, _, title, lead, main)| {
                let page = Page {
                    title,
                    lead: html! { (lead) },
                    nav: &nav,
                    file,
                    main: main.clone(),
                };
                ((*file).to_owned(), page.html())
            })
            .collect();
        let columns = conformance::columns(&self.conformance);
        for column in &columns {
            let file = format!("badge-{}.svg", text::slug(&column.label));
            files.push((file, conformance::badge(&column.report.body)));
        }
        files
    }
}

/// Reads reports from their folders; each gets a name of its own.
///
/// # Errors
/// When one cannot be read.
pub fn read(dirs: &[std::path::PathBuf]) -> Result<Vec<Loaded>, FolderError> {
    let mut names = BTreeSet::new();
    let mut loaded = Vec::new();
    for dir in dirs {
        let report = folder::read(dir)?;
        let folder = if dir.is_dir() {
            dir.as_path()
        } else {
            dir.parent().unwrap_or(dir)
        };
        let base = folder
            .canonicalize()
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "run".to_owned());
        let mut name = base.clone();
        let mut number = 2;
        while !names.insert(text::slug(&name)) {
            name = format!("{base} {number}");
            number += 1;
        }
        loaded.push(Loaded { name, report });
    }
    Ok(loaded)
}

/// Writes a site.
///
/// # Errors
/// When a file cannot be written.
pub fn write(reports: &[Loaded], out: &Path) -> Result<Vec<String>, FolderError> {
    let files = site(reports);
    for (name, text) in &files {
        folder::write_file(out, name, text)?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}
