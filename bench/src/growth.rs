//! From one thousand tokens to ten million: what a hit, a miss and the memory come to, as a table and as a picture.

use std::fmt::Write;
use std::path::Path;

use crate::deployment::Deployment;
use crate::hits::full;
use crate::report::{Goal, Row};
use crate::rows;

const SIZES: [(usize, &str, &str); 5] = [
    (1_000, "1k", "ns: a hit, random over 1k"),
    (10_000, "10k", "ns: a hit, random over 10k"),
    (100_000, "100k", "ns: a hit, random over 100k"),
    (1_000_000, "1M", "ns: a hit, random over 1M"),
    (10_000_000, "10M", "ns: a hit, random over 10M"),
];

/// What is drawn of one size, in nanoseconds.
struct Point {
    label: &'static str,
    hit: f64,
    miss: f64,
    cache: usize,
    file: f64,
}

pub(crate) fn run() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut points = Vec::new();
    for (count, label, what) in SIZES {
        let full = full(count);
        let deployment = Deployment::of(count);
        let (miss, _) = rows::measure(&deployment);
        let point = Point { label, hit: full.hits.hit, miss, cache: full.bytes, file: deployment.megabytes() };
        rows.push(Row {
            id: "GROWTH",
            what,
            figure: point.hit,
            goal: Goal::Told,
            detail: format!(
                "a miss {:.1} µs; cache {:.2} MB, {:.0} B each; database {:.1} MB; SHA-256 {:.0} ns",
                point.miss / 1e3,
                point.cache as f64 / 1e6,
                full.bytes_each,
                point.file,
                full.hits.sha256
            ),
        });
        points.push(point);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/growth.svg");
    std::fs::write(&path, picture(&points)).unwrap();
    println!("  drawn in docs/growth.svg");
    rows
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 48.0;
/// Nanoseconds at the foot and at the head of the picture: 10 ns and 100 µs.
const DECADES: (f64, f64) = (1.0, 5.0);

/// Both axes by powers of ten: tokens to the right, time upwards.
fn picture(points: &[Point]) -> String {
    let x = |position: usize| LEFT + (WIDTH - LEFT - RIGHT) * position as f64 / (points.len() - 1) as f64;
    let y = |nanoseconds: f64| {
        let share = (nanoseconds.log10() - DECADES.0) / (DECADES.1 - DECADES.0);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>What one authentication takes, from one thousand tokens to ten million</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    for (decade, label) in [(1, "10 ns"), (2, "100 ns"), (3, "1 µs"), (4, "10 µs"), (5, "100 µs")] {
        let at = y(10_f64.powi(decade));
        let end = WIDTH - RIGHT;
        writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#ddd\"/>").unwrap();
        let (from, base) = (LEFT - 8.0, at + 4.0);
        writeln!(svg, "<text x=\"{from}\" y=\"{base:.1}\" text-anchor=\"end\" fill=\"#555\">{label}</text>").unwrap();
    }
    for (position, point) in points.iter().enumerate() {
        let (at, base) = (x(position), HEIGHT - BOTTOM + 20.0);
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{base}\" text-anchor=\"middle\" fill=\"#555\">{}</text>", point.label)
            .unwrap();
    }
    let (middle, base) = (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 8.0);
    writeln!(svg, "<text x=\"{middle}\" y=\"{base}\" text-anchor=\"middle\" fill=\"#555\">tokens</text>").unwrap();
    let of_misses: fn(&Point) -> f64 = |point| point.miss;
    let of_hits: fn(&Point) -> f64 = |point| point.hit;
    for (name, color, of) in [("SQLite", "#b4540a", of_misses), ("from memory", "#0b6b46", of_hits)] {
        let line: Vec<String> = points
            .iter()
            .enumerate()
            .map(|(position, point)| format!("{:.1},{:.1}", x(position), y(of(point))))
            .collect();
        writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>", line.join(" "))
            .unwrap();
        for (position, point) in points.iter().enumerate() {
            let (at, up) = (x(position), y(of(point)));
            let value = of(point);
            let told = if value < 1e3 { format!("{value:.0} ns") } else { format!("{:.1} µs", value / 1e3) };
            writeln!(svg, "<circle cx=\"{at:.1}\" cy=\"{up:.1}\" r=\"3\" fill=\"{color}\"/>").unwrap();
            let above = up - 10.0;
            // The first stands clear of the axis.
            let anchor = if position == 0 { "start" } else { "middle" };
            writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{above:.1}\" text-anchor=\"{anchor}\" font-size=\"11\">{told}</text>"
            )
            .unwrap();
        }
        if let Some(last) = points.last() {
            let (from, base) = (WIDTH - RIGHT + 34.0, y(of(last)) + 4.0);
            writeln!(svg, "<text x=\"{from}\" y=\"{base:.1}\" fill=\"{color}\">{name}</text>").unwrap();
        }
    }
    svg.push_str("</svg>\n");
    svg
}
