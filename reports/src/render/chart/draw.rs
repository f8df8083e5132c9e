//! From a plot to SVG.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;

use super::{AXIS, Axis, GRID, Line, Plot};

/// Plotters draws on whole pixels; at twice the size the steps are not seen.
const FINE: u32 = 2;

/// A width to draw for.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    class: &'static str,
    width: u32,
    height: f64,
    /// Most marks of the horizontal axis.
    marks: usize,
}

/// For a desktop.
pub const BROAD: Size = Size {
    class: "broad",
    width: 1_040,
    height: 330.0,
    marks: 12,
};
/// For a desktop, two side by side.
pub const HALF: Size = Size {
    class: "broad",
    width: 530,
    height: 290.0,
    marks: 8,
};
/// For a phone.
pub const NARROW: Size = Size {
    class: "narrow",
    width: 380,
    height: 270.0,
    marks: 5,
};

/// Points of a line.
type Points = Vec<(f64, f64)>;

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The chart, with `label` for those who don't see it.
pub fn svg(plot: &Plot, size: Size, label: &str) -> String {
    let height = whole(size.height * plot.tall) * FINE;
    let mut buffer = String::new();
    {
        let area =
            SVGBackend::with_string(&mut buffer, (size.width * FINE, height)).into_drawing_area();
        // A string takes everything: an error could only be a mistake in this file, which tests would show.
        if draw(plot, size, &area).is_err() {
            return String::new();
        }
    }
    let label = maud::html! { (super::short(label)) }.into_string();
    let head = format!(
        "<svg class=\"chart {}\" role=\"img\" aria-label=\"{label}\" ",
        size.class
    );
    let sized = format!("width=\"{}\" height=\"{height}\" ", size.width * FINE);
    buffer.replacen("<svg ", &head, 1).replacen(&sized, "", 1)
}

fn draw(plot: &Plot, size: Size, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
    let marks = thinned(&plot.x, size.marks);
    let mut chart = ChartBuilder::on(area)
        .margin(6 * FINE)
        .margin_right(24 * FINE)
        .x_label_area_size(38 * FINE)
        .y_label_area_size(56 * FINE)
        .build_cartesian_2d(range(&plot.x, &marks), range(&plot.y, &plot.y.marks))?;
    let text = |px: u32| {
        ("sans-serif", whole(f64::from(px * FINE) * 1.24))
            .into_font()
            .color(&AXIS)
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID.stroke_width(FINE))
        .light_line_style(TRANSPARENT)
        .axis_style(AXIS.stroke_width(FINE))
        .set_all_tick_mark_size(4 * FINE)
        .label_style(text(12))
        .axis_desc_style(text(12))
        .x_desc(plot.x.name)
        .y_desc(plot.y.name)
        .x_label_formatter(&|at| said(&plot.x, &marks, *at))
        .y_label_formatter(&|at| said(&plot.y, &plot.y.marks, *at))
        .x_labels(marks.len().max(1))
        .y_labels(plot.y.marks.len().max(1))
        .draw()?;
    for column in &plot.columns {
        let mut base = 0.0;
        for (colour, height) in &column.parts {
            let ends = [
                (plot.x.place(column.ends.0), plot.y.place(base)),
                (plot.x.place(column.ends.1), plot.y.place(base + height)),
            ];
            base += height;
            if *height > 0.0 {
                chart.draw_series([Rectangle::new(ends, colour.filled())])?;
            }
        }
    }
    for line in &plot.lines {
        let (sure, faint) = split(line);
        let placed = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
            let place = |(x, y): &(f64, f64)| (plot.x.place(*x), plot.y.place(*y));
            points.iter().map(place).collect()
        };
        let parts = [(faint, line.colour.mix(0.4)), (sure, line.colour.to_rgba())];
        for (points, colour) in parts {
            for run in joined(&points, line.gap) {
                let placed = placed(run);
                // A point without neighbours would not be seen.
                if let ([(x, y)], false) = (&placed[..], line.dots) {
                    let dot = Circle::new((*x, *y), 2 * FINE, colour.filled());
                    chart.draw_series([dot])?;
                }
                chart.draw_series(LineSeries::new(placed, colour.stroke_width(2 * FINE)))?;
            }
        }
        for (x, y) in line.points.iter().filter(|_| line.dots) {
            let at = (plot.x.place(*x), plot.y.place(*y));
            let style = if line.open.contains(x) {
                line.colour.stroke_width(2 * FINE)
            } else {
                line.colour.filled()
            };
            chart.draw_series([Circle::new(at, 4 * FINE, style)])?;
        }
    }
    area.present()
}

/// A straight axis with marks where we say. (Plotters' own decorator for that has no formatter for floats.)
struct Straight {
    low: f64,
    high: f64,
    marks: Vec<f64>,
}

impl Ranged for Straight {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "pixels of a chart")]
    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low).max(f64::MIN_POSITIVE);
        from + (f64::from(to - from) * share.clamp(-1.0, 2.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.marks.clone()
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.low..self.high
    }
}

fn range(axis: &Axis, marks: &[(f64, String)]) -> Straight {
    Straight {
        low: axis.place(axis.low),
        high: axis.place(axis.high),
        marks: marks.iter().map(|(at, _)| axis.place(*at)).collect(),
    }
}

/// The text of the mark that lies here.
fn said(axis: &Axis, marks: &[(f64, String)], at: f64) -> String {
    let near = |mark: &&(f64, String)| (axis.place(mark.0) - at).abs() < 1e-9 * at.abs().max(1.0);
    marks
        .iter()
        .find(near)
        .map(|(_, text)| text.clone())
        .unwrap_or_default()
}

/// At most `number` marks: every second one, every third one, …
fn thinned(axis: &Axis, number: usize) -> Vec<(f64, String)> {
    let step = axis.marks.len().div_ceil(number.max(1)).max(1);
    axis.marks.iter().step_by(step).cloned().collect()
}

/// The part of a line that is sure, and the faint one, which begins where the other ends.
fn split(line: &Line) -> (Points, Points) {
    let Some(from) = line.faint_from else {
        return (line.points.clone(), Vec::new());
    };
    let sure: Vec<_> = line
        .points
        .iter()
        .copied()
        .take_while(|(x, _)| *x <= from)
        .collect();
    let faint = line.points[sure.len().saturating_sub(1)..].to_vec();
    (sure, faint)
}

/// Runs of points that are joined; none of nothing.
fn joined(points: &[(f64, f64)], gap: Option<f64>) -> impl Iterator<Item = &[(f64, f64)]> {
    points.chunk_by(move |before, after| gap.is_none_or(|gap| after.0 - before.0 <= gap))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of charts: positive and small"
)]
fn whole(pixels: f64) -> u32 {
    pixels.round() as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_break_at_gaps_and_nowhere_else(steps in prop::collection::vec(1u32..10, 0..30), gap in 1u32..10) {
            let mut at = 0.0;
            let points: Vec<(f64, f64)> = steps
                .iter()
                .map(|step| {
                    at += f64::from(*step);
                    (at, 0.0)
                })
                .collect();
            let runs: Vec<_> = joined(&points, Some(f64::from(gap))).collect();
            prop_assert_eq!(runs.concat(), points.clone());
            let wide = steps.iter().skip(1).filter(|step| **step > gap).count();
            prop_assert_eq!(runs.len(), wide + usize::from(!points.is_empty()));
            prop_assert_eq!(joined(&points, None).count(), usize::from(!points.is_empty()));
        }
    }
}
