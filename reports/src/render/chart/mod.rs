//! Charts as SVG within a page, drawn by plotters.
//!
//! ```text
//!  Plot (values, axes, lines, stacks) ─► draw, once broad and once narrow ─► <svg class="chart broad|narrow">
//! ```
//!
//! A chart that is shrunk to a phone has text of six pixels, so each is drawn twice and the style shows one. Colours are the
//! light theme's; the style maps them to the current theme by attribute. No text of a report is within a chart: names stand in
//! a legend of HTML.

mod axis;
mod draw;

use maud::{Markup, PreEscaped, html};
use plotters::style::RGBColor;

pub use self::axis::{Axis, Scale, log_ticks, ticks};
use super::text::short;

/// Colours of series, in their order.
pub const SERIES: [RGBColor; 8] = [
    RGBColor(0x1f, 0x6f, 0xd1),
    RGBColor(0xc2, 0x57, 0x1a),
    RGBColor(0x14, 0x8a, 0x6c),
    RGBColor(0xa6, 0x44, 0x8f),
    RGBColor(0x8a, 0x6d, 0x00),
    RGBColor(0x4a, 0x5b, 0xd4),
    RGBColor(0xb3, 0x30, 0x4f),
    RGBColor(0x4d, 0x7a, 0x1e),
];
/// Axes and their text.
pub const AXIS: RGBColor = RGBColor(0x57, 0x60, 0x6a);
/// Lines of the grid.
pub const GRID: RGBColor = RGBColor(0xdf, 0xe3, 0xe8);
/// Successes.
pub const OK: RGBColor = RGBColor(0x2f, 0x9e, 0x62);
/// Failures.
pub const FAILED: RGBColor = RGBColor(0xd6, 0x49, 0x3c);
/// What was never sent.
pub const DROPPED: RGBColor = RGBColor(0xd9, 0x9a, 0x1c);

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Points by rising x, in the values of the axes.
    pub points: Vec<(f64, f64)>,
    /// Colour.
    pub colour: RGBColor,
    /// From this x on it is drawn faint: there are too few samples to mean much.
    pub faint_from: Option<f64>,
    /// Whether each point has a dot.
    pub dots: bool,
    /// Where the dots are open: not enough samples.
    pub open: Vec<f64>,
    /// Points further apart than this are not joined: nothing is known of what lies between.
    pub gap: Option<f64>,
}

/// One column of a stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its left and right end.
    pub ends: (f64, f64),
    /// Heights from the bottom up.
    pub parts: Vec<(RGBColor, f64)>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// Lines, the first one at the back.
    pub lines: Vec<Line>,
    /// Columns behind them.
    pub columns: Vec<Column>,
    /// Height for its width: 1 is usual.
    pub tall: f64,
    /// Whether two stand side by side where there is room.
    pub half: bool,
}

/// Colour of the series with this index.
#[must_use]
pub fn colour(index: usize) -> RGBColor {
    SERIES[index % SERIES.len()]
}

/// Class of the same colour in HTML.
#[must_use]
pub fn class(index: usize) -> String {
    format!("s{}", index % SERIES.len() + 1)
}

/// A figure: the chart in both widths, its legend and what it says.
#[must_use]
pub fn figure(plot: &Plot, caption: &str, legend: &[(String, &str)]) -> Markup {
    html! {
        figure {
            figcaption { (short(caption)) }
            (keys(legend))
            (PreEscaped(draw::svg(plot, if plot.half { draw::HALF } else { draw::BROAD }, caption)))
            (PreEscaped(draw::svg(plot, draw::NARROW, caption)))
        }
    }
}

/// A legend: class of the colour and name.
#[must_use]
pub fn keys(legend: &[(String, &str)]) -> Markup {
    html! {
        @if !legend.is_empty() {
            ul.legend {
                @for (class, name) in legend {
                    li { svg.key aria-hidden="true" { rect class=(class) {} } (short(name)) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_knows_every_colour() {
        let style = include_str!("../../../assets/style.css");
        for colour in SERIES.iter().chain([&AXIS, &GRID]) {
            let stroke = format!(
                "[stroke=\"#{:02X}{:02X}{:02X}\"]",
                colour.0, colour.1, colour.2
            );
            assert!(style.contains(&stroke), "{stroke}");
        }
        for colour in SERIES.iter().chain([&AXIS, &OK, &FAILED, &DROPPED]) {
            let fill = format!(
                "[fill=\"#{:02X}{:02X}{:02X}\"]",
                colour.0, colour.1, colour.2
            );
            assert!(style.contains(&fill), "{fill}");
        }
    }
}
