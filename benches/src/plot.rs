//! Draws the figures as horizontal bars, one group for each row of the table.

use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const LABEL: f64 = 150.0;
const BAR: f64 = 16.0;
const GAP: f64 = 34.0;

/// A title, and the figure of each server.
pub type Group<'a> = (String, Vec<(&'a str, Option<f64>)>);

/// Draws an SVG. Each group has its own scale, and its first bar is highlighted.
pub fn bars(groups: &[Group<'_>]) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for (title, values) in groups {
        y += GAP / 2.0;
        let _ = writeln!(body, r#"<text x="10" y="{y}" font-weight="bold">{title}</text>"#);
        y += 8.0;
        // A far larger figure would make the other bars too short to see, so its bar is cut.
        let mut sorted: Vec<f64> = values.iter().filter_map(|(_, value)| *value).collect();
        sorted.sort_by(f64::total_cmp);
        let scale = sorted
            .iter()
            .rev()
            .find(|value| **value <= sorted[0].max(1e-9) * 12.0)
            .copied()
            .unwrap_or(1.0);
        for (index, (name, value)) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            let width = (value / scale).min(1.15) * (WIDTH - LABEL - 190.0);
            let color = if index == 0 { "#2a6fdb" } else { "#9aa5b1" };
            let (text, end) = (y + BAR - 4.0, LABEL + width + 6.0);
            let _ = writeln!(
                body,
                r#"<text x="{}" y="{text}" text-anchor="end">{name}</text>"#,
                LABEL - 8.0
            );
            let _ = writeln!(
                body,
                r#"<rect x="{LABEL}" y="{y}" width="{width:.1}" height="{}" fill="{color}"/>"#,
                BAR - 3.0
            );
            let _ = writeln!(body, r#"<text x="{end:.1}" y="{text}">{value:.1}</text>"#);
            y += BAR;
        }
        y += GAP / 2.0;
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}"
 font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
{body}</svg>
"##
    )
}
