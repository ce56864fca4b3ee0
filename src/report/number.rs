//! Numbers for people.

/// A number before and after, for people: `46,246 -> 14,886 (-67.8%)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change(pub [u64; 2]);

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [before, after] = self.0;
        write!(f, "{} -> {} ({})", count(before), count(after), self.relative())
    }
}

impl Change {
    /// The change in percent of what there was: `-67.8%`.
    pub fn relative(&self) -> String {
        match self.0 {
            [a, b] if a == b => "unchanged".to_owned(),
            [0, _] => "new".to_owned(),
            [a, b] => format!("{:+.1}%", (b as f64 - a as f64) / a as f64 * 100.0),
        }
    }
}

/// Digits in groups of three.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// A part of a whole: `12.5%`, `-` where there is no whole.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1}%", part as f64 / whole as f64 * 100.0) }
}

/// A number of bytes: `186.8 kB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [999, 1000, 999_949, 999_950, 3_000_000_000].map(bytes),
            ["999 B", "1.0 kB", "999.9 kB", "1.0 MB", "3.0 GB"]
        );
        assert_eq!(Change([46246, 14886]).to_string(), "46,246 -> 14,886 (-67.8%)");
        assert_eq!(Change([0, 3]).relative(), "new");
        assert_eq!((percent(1, 8), percent(1, 0)), ("12.5%".to_owned(), "-".to_owned()));
    }
}
