//! The frame of every page: one file, nothing from elsewhere.
//!
//! The policy in the head allows this very style and this very script by their hashes and nothing else: no request leaves
//! the page, and were some text of a target ever taken for markup, it still could not run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("../../assets/style.css");
const SCRIPT: &str = include_str!("../../assets/script.js");

/// A page of a site.
#[derive(Debug)]
pub struct Page<'a> {
    /// Title of the window and of the page.
    pub title: &'a str,
    /// A sentence under it.
    pub lead: Markup,
    /// The pages of the site: file and name; empty for a page that stands alone.
    pub nav: &'a [(&'a str, &'a str)],
    /// File of this page.
    pub file: &'a str,
    /// What is on it.
    pub main: Markup,
}

impl Page<'_> {
    /// The file.
    #[must_use]
    pub fn html(&self) -> String {
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
            hash(STYLE),
            hash(SCRIPT)
        );
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="generator" content=(concat!("reports ", env!("CARGO_PKG_VERSION")));
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    a.skip href="#main" { "Skip to the results" }
                    header.top {
                        div.wrap {
                            @if !self.nav.is_empty() {
                                nav aria-label="Pages" {
                                    @for (file, name) in self.nav {
                                        @if *file == self.file {
                                            a href=(file) aria-current="page" { (name) }
                                        } @else {
                                            a href=(file) { (name) }
                                        }
                                    }
                                }
                            }
                            h1 { (self.title) }
                            p.lead { (self.lead) }
                        }
                    }
                    main #main tabindex="-1" { div.wrap { (self.main) } }
                    footer { div.wrap { p {
                        "Made by reports " (env!("CARGO_PKG_VERSION")) ". This page loads nothing from anywhere."
                    } } }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        }
        .into_string()
    }
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// A table that may be wider than a phone: it scrolls by itself, by keyboard too.
#[must_use]
pub fn table(name: &str, body: Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(name) tabindex="0" {
            table { caption.hidden { (name) } (body) }
        }
    }
}

/// A table whose rows become blocks on a phone, each cell under its own name. The roles are said again: a row that is no
/// longer drawn as one would lose them.
#[must_use]
pub fn stacked(name: &str, columns: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.scroll role="region" aria-label=(name) tabindex="0" {
            table.stack role="table" {
                caption.hidden { (name) }
                thead role="rowgroup" { tr role="row" {
                    @for (index, column) in columns.iter().enumerate() {
                        th.num[index > 0] scope="col" role="columnheader" { (column) }
                    }
                } }
                tbody role="rowgroup" {
                    @for row in rows {
                        tr role="row" {
                            @for (index, (column, cell)) in columns.iter().zip(row).enumerate() {
                                @if index == 0 { th scope="row" role="rowheader" { (cell) } }
                                @else { td.num role="cell" data-label=(column) { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A command with a button that copies it.
#[must_use]
pub fn command(text: &str) -> Markup {
    html! {
        div.command {
            // A line breaks between words, not within flags.
            pre tabindex="0" { code { @for word in super::text::line(text).to_string().split(' ') { span { (word) } " " } } }
            button.copy type="button" hidden { "Copy" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_can_stand_within_a_page() {
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
        for word in [
            "http:",
            "https:",
            "url(",
            "@import",
            "fetch(",
            "XMLHttp",
            "innerHTML",
            "eval(",
        ] {
            assert!(!STYLE.contains(word) && !SCRIPT.contains(word), "{word}");
        }
    }
}
