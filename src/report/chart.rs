//! A curve as a picture.
//!
//! Guarantees: the same bytes for the same numbers; text stays text, so that it can be searched and read aloud; it
//! follows the viewer's choice of a light or a dark scheme.
//! Refuses: nothing; points that are not finite are left out.
//! How: SVG written by hand, coordinates with one digit.

use std::fmt::Write;

/// Points over two axes, joined by a line in the order of their `x`.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    pub title: String,
    pub subtitle: String,
    pub axes: [String; 2],
    pub marks: Vec<Mark>,
    /// A level to compare with, and what it is.
    pub level: Option<(f64, String)>,
    /// The range of the vertical axis never goes beyond this.
    pub limits: [f64; 2],
}

/// One point.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    pub at: [f64; 2],
    /// Shown where the viewer points at it.
    pub text: String,
    /// Drawn as a ring: not what was asked for.
    pub hollow: bool,
}

const SIZE: [f64; 2] = [720.0, 460.0];
/// Left, top, right, bottom of the plot.
const PLOT: [f64; 4] = [72.0, 76.0, 696.0, 396.0];

const STYLE: &str = "\
  <style>
    .back { fill: #ffffff } .text { fill: #1f2328 } .soft { fill: #59636e }
    .axis { stroke: #818b98; fill: none } .grid { stroke: #d1d9e0; fill: none }
    .level { stroke: #59636e; stroke-dasharray: 5 4; fill: none }
    .line { stroke: #0969da; stroke-width: 2; fill: none } .dot { fill: #0969da; stroke: #0969da; stroke-width: 2 }
    .ring { fill: #ffffff; stroke: #0969da; stroke-width: 2 }
    @media (prefers-color-scheme: dark) {
      .back { fill: #0d1117 } .text { fill: #f0f6fc } .soft { fill: #9198a1 }
      .axis { stroke: #656c76 } .grid { stroke: #2f3742 } .level { stroke: #9198a1 }
      .line { stroke: #4493f8 } .dot { fill: #4493f8; stroke: #4493f8 } .ring { fill: #0d1117; stroke: #4493f8 }
    }
  </style>
";

impl Chart {
    /// The picture.
    pub fn svg(&self) -> String {
        let mut marks: Vec<&Mark> = self.marks.iter().filter(|m| m.at.iter().all(|x| x.is_finite())).collect();
        marks.sort_by(|a, b| a.at[0].total_cmp(&b.at[0]));
        let [left, top, right, bottom] = PLOT;
        let heights = || marks.iter().map(|m| m.at[1]).chain(self.level.iter().map(|l| l.0)).filter(|y| y.is_finite());
        let (low, high) = (heights().fold(f64::INFINITY, f64::min), heights().fold(f64::NEG_INFINITY, f64::max));
        let vertical =
            if low <= high { Scale::around(low, high, self.limits) } else { Scale::around(0.0, 1.0, self.limits) };
        let horizontal = Scale { low: 0.0, high: 100.0, step: 20.0 };
        let x = |v: f64| left + horizontal.part(v) * (right - left);
        let y = |v: f64| bottom - vertical.part(v) * (bottom - top);

        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" \
             aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n{STYLE}",
            w = SIZE[0],
            h = SIZE[1],
            title = escaped(&self.title),
        );
        let mut put = |line: String| {
            let _ = writeln!(out, "  {line}");
        };
        put(format!("<rect class=\"back\" width=\"{}\" height=\"{}\"/>", SIZE[0], SIZE[1]));
        put(text("text", [left, 30.0], "start", 17, &self.title));
        put(text("soft", [left, 52.0], "start", 13, &self.subtitle));
        for tick in vertical.ticks() {
            put(format!("<path class=\"grid\" d=\"M{left:.1} {at:.1}H{right:.1}\"/>", at = y(tick)));
            put(text("soft", [left - 8.0, y(tick) + 4.5], "end", 13, &vertical.label(tick)));
        }
        for tick in horizontal.ticks() {
            put(format!("<path class=\"axis\" d=\"M{at:.1} {bottom:.1}v5\"/>", at = x(tick)));
            put(text("soft", [x(tick), bottom + 20.0], "middle", 13, &horizontal.label(tick)));
        }
        put(format!("<path class=\"axis\" d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\"/>"));
        put(text("text", [(left + right) / 2.0, bottom + 44.0], "middle", 13, &self.axes[0]));
        let middle = (top + bottom) / 2.0;
        put(format!(
            "<text class=\"text\" text-anchor=\"middle\" transform=\"translate(20 {middle:.1}) rotate(-90)\">{}</text>",
            escaped(&self.axes[1])
        ));
        if let Some((level, name)) = self.level.as_ref().filter(|l| l.0.is_finite()) {
            put(format!("<path class=\"level\" d=\"M{left:.1} {at:.1}H{right:.1}\"/>", at = y(*level)));
            // Above the line, but not out of the plot.
            let above = y(*level) - 6.0;
            let height = if above - 12.0 < top { y(*level) + 16.0 } else { above };
            put(text("soft", [left + 8.0, height], "start", 12, name));
        }
        let corners: Vec<String> = marks.iter().map(|m| format!("{:.1} {:.1}", x(m.at[0]), y(m.at[1]))).collect();
        if corners.len() > 1 {
            put(format!("<path class=\"line\" d=\"M{}\"/>", corners.join("L")));
        }
        for m in &marks {
            let class = if m.hollow { "ring" } else { "dot" };
            put(format!(
                "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{}</title></circle>",
                x(m.at[0]),
                y(m.at[1]),
                escaped(&m.text)
            ));
        }
        out += "</svg>\n";
        out
    }
}

fn text(class: &str, [x, y]: [f64; 2], anchor: &str, size: u32, words: &str) -> String {
    let words = escaped(words);
    format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{words}</text>"
    )
}

/// Text as XML has it. Control characters, which it cannot have, are left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control()) {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c => out.push(c),
        }
    }
    out
}

/// One axis.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Scale {
    /// Round numbers that enclose a range, as far as the limits go; at most seven ticks.
    fn around(low: f64, high: f64, limits: [f64; 2]) -> Self {
        // One value alone still needs a range around it.
        let span = (high - low).max(1e-3 * high.abs()).max(1e-6);
        let steps = (-6..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
        let step = steps.into_iter().find(|step| span / step <= 5.0).unwrap_or(span);
        let (low, high) = ((low / step).floor() * step, ((high + span * 0.05) / step).ceil() * step);
        Self { low: low.max(limits[0]), high: high.min(limits[1]).max(low + step), step }
    }

    fn part(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        let count = ((self.high - self.low) / self.step + 1e-9) as usize;
        (0..=count).map(|i| self.low + i as f64 * self.step).collect()
    }

    fn label(&self, tick: f64) -> String {
        let digits = (0..7).find(|&d| (self.step * 10f64.powi(d) + 1e-9).fract() < 1e-6).unwrap_or(6);
        format!("{tick:.*}", digits as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_within_limits() {
        let scale = Scale::around(39.4, 99.8, [0.0, 100.0]);
        assert_eq!((scale.low, scale.high, scale.step), (20.0, 100.0, 20.0));
        let labels = |s: Scale| s.ticks().into_iter().map(|t| s.label(t)).collect::<Vec<_>>();
        assert_eq!(labels(scale), ["20", "40", "60", "80", "100"]);
        assert_eq!(labels(Scale::around(0.0, 0.42, [0.0, f64::INFINITY])), ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5"]);
        let one = Scale::around(88.5, 88.5, [0.0, 100.0]);
        assert!(one.low <= 88.5 && one.high > 88.5 && one.ticks().len() > 1, "{one:?}");
        let nothing = Scale::around(0.0, 0.0, [0.0, f64::INFINITY]);
        assert!(nothing.low == 0.0 && nothing.high > 0.0, "{nothing:?}");
    }

    #[test]
    fn words_cannot_break_the_picture() {
        let chart = Chart {
            title: "a<b>&\"c\"\u{1}".to_owned(),
            subtitle: String::new(),
            axes: ["x".to_owned(), "y".to_owned()],
            marks: vec![
                Mark { at: [50.0, 3.0], text: "&".to_owned(), hollow: true },
                Mark { at: [10.0, f64::NAN], text: "none".to_owned(), hollow: false },
            ],
            level: None,
            limits: [0.0, f64::INFINITY],
        };
        let svg = chart.svg();
        assert!(svg.contains("a&lt;b&gt;&amp;&quot;c&quot;<") && svg.contains("<title>&amp;</title>"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("none</title>"), "{svg}");
        assert_eq!(svg.matches("class=\"ring\"").count(), 1);
    }
}
