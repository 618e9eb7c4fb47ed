//! Plots, as SVG: bars of what each costs relative to the baseline, and lines over a number that
//! grows.
//!
//! Colours are those of a page that may be light or dark: text and lines change with it, and
//! nothing is painted behind them. Not: what is plotted.

use anyhow::{Context, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::contest::{Kind, Measured, Row};
use crate::stats::{CPU, Spread, WALL};
use crate::work::scale::Curve;

/// What a page that is light has, by which a style sheet finds them for one that is dark.
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const GRID: RGBColor = RGBColor(0xd1, 0xd9, 0xe0);
const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xeb);
const PEERS: RGBColor = RGBColor(0x8c, 0x95, 0x9f);
const TOKIOS: RGBColor = RGBColor(0xbf, 0x87, 0x00);
const NOISE: RGBColor = RGBColor(0x2d, 0xa4, 0x4e);

/// For a dark page. An attribute yields to a rule.
const STYLE: &str = "<style>@media (prefers-color-scheme: dark) { \
     [fill=\"#1F2328\"] { fill: #f0f6fc } [stroke=\"#1F2328\"] { stroke: #f0f6fc } \
     [stroke=\"#D1D9E0\"] { stroke: #3d444d } }</style>";

/// All plots of a run, each with the name of its file.
pub(super) fn all(
    measured: &[Measured],
    curves: &[Curve],
) -> anyhow::Result<Vec<(String, String)>> {
    let bars =
        measured.iter().map(|measured| Ok((format!("{}.svg", measured.id), bars(measured)?)));
    let lines = curves.iter().map(|curve| Ok((format!("scale-{}.svg", curve.id), lines(curve)?)));
    bars.chain(lines).collect()
}

/// A line of text and a bar for each; where 1 is, the baseline.
fn bars(measured: &Measured) -> anyhow::Result<String> {
    // Writing is waited for; for all else, what counts is the processor.
    let (figure, what) = if measured.id == "w4" { (WALL, "time") } else { (CPU, "CPU") };
    let ratio = |row: &Row| Some((name(row), row.kind, row.ratio(figure)?));
    let rows: Vec<(String, Kind, Spread)> = measured.rows.iter().filter_map(ratio).collect();
    let most = rows.iter().map(|row| row.2.median).fold(1.5, f64::max);
    // Beyond this, a bar would leave nothing to be seen of the others.
    let end = most.min(6.0) * 1.15;
    let height = u32::try_from(rows.len()).context("too many bars")? * 22 + 70;
    let title = format!("{}: {what}, x raw loop", measured.title);
    draw(height, |area| {
        let rows_end = rows.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 15).into_font().color(&INK))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(280)
            .build_cartesian_2d(0.0..end, 0.0..rows_end)
            .map_err(said)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .x_labels(8)
            .x_label_formatter(&|x| format!("{x:.1}"))
            .label_style(("sans-serif", 12).into_font().color(&INK))
            .axis_style(GRID)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(said)?;
        let style = ("sans-serif", 12).into_font().color(&INK);
        for (at, (name, kind, spread)) in rows.iter().enumerate() {
            let top = rows_end - at as f64;
            let bar = [(0.0, top - 0.85), (spread.median.min(end), top - 0.15)];
            chart.draw_series([Rectangle::new(bar, colour(*kind).filled())]).map_err(said)?;
            let interval = [spread.low, spread.high].map(|x| (x.min(end), top - 0.5));
            chart.draw_series([PathElement::new(interval.to_vec(), INK)]).map_err(said)?;
            let end_of_bar = spread.high.max(spread.median).min(end * 0.92);
            let (x, y) = chart.backend_coord(&(end_of_bar, top - 0.28));
            let figure = format!("{:.2}", spread.median);
            area.draw(&Text::new(figure, (x + 6, y), style.clone())).map_err(said)?;
            area.draw(&Text::new(name.clone(), (8, y), style.clone())).map_err(said)?;
        }
        let baseline = PathElement::new(vec![(1.0, 0.0), (1.0, rows_end)], INK.stroke_width(2));
        chart.draw_series([baseline]).map_err(said)?;
        Ok(())
    })
}

fn name(row: &Row) -> String {
    let name = row.name.replace('`', "");
    if row.kind == Kind::Ours { format!("deferring, {name}") } else { name }
}

const fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Ours => OURS,
        Kind::Peer => PEERS,
        Kind::Tokio => TOKIOS,
        Kind::Again | Kind::Other => NOISE,
    }
}

/// A line each over a growing number, both of them in powers.
fn lines(curve: &Curve) -> anyhow::Result<String> {
    let points = || curve.lines.iter().flat_map(|line| &line.points);
    let most_x = points().map(|point| point.0 as f64).fold(1.0, f64::max);
    let most_y = points().map(|point| point.1).fold(1.0, f64::max);
    draw(300, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(curve.title, ("sans-serif", 15).into_font().color(&INK))
            .margin(8)
            .margin_right(40)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d((1.0..most_x * 1.1).log_scale(), 0.0..most_y * 1.2)
            .map_err(said)?;
        chart
            .configure_mesh()
            .x_desc(curve.x)
            .y_desc(curve.y)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .label_style(("sans-serif", 12).into_font().color(&INK))
            .axis_style(GRID)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(said)?;
        for (line, colour) in curve.lines.iter().zip([OURS, NOISE, TOKIOS]) {
            let points = || line.points.iter().map(|(x, y)| (*x as f64, *y));
            let drawn = LineSeries::new(points(), colour.stroke_width(2));
            chart.draw_series(drawn).map_err(said)?.label(line.name).legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2))
            });
            chart
                .draw_series(points().map(|at| Circle::new(at, 3, colour.filled())))
                .map_err(said)?;
        }
        if curve.lines.len() < 2 {
            return Ok(());
        }
        let ends = curve.lines.first().and_then(|line| line.points.first().zip(line.points.last()));
        let falls = ends.is_some_and(|(first, last)| first.1 > last.1);
        let corner = match falls {
            true => SeriesLabelPosition::UpperRight,
            false => SeriesLabelPosition::UpperLeft,
        };
        chart
            .configure_series_labels()
            .position(corner)
            .label_font(("sans-serif", 12).into_font().color(&INK))
            .draw()
            .map_err(said)?;
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw(height: u32, draw: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (860, height)).into_drawing_area();
        draw(&area)?;
        area.present().map_err(said)?;
    }
    let head = svg.find('>').context("an SVG has a head")? + 1;
    svg.insert_str(head, STYLE);
    Ok(svg)
}

fn said(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("plotting: {error}")
}
