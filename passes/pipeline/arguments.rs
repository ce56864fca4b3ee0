//! Arguments of a pass, from `--passes` or from flags of a command: the same names, read by the same code.
//!
//! Guarantees: a pass sees each argument under the type that it asks for; what it does not ask for is refused by name,
//! so that a misspelt option is never without effect.
//! How: a pass *asks* for each of its options while it is made; the names that it asked for are those it knows.

use super::nearest;
use std::fmt::Display;
use std::str::FromStr;

/// An argument that a pass cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ArgumentError {
    /// Byte offset in the text of the pipeline; 0 for arguments that come from flags.
    pub at: usize,
    pub text: String,
}

/// Arguments of one pass, in the order given.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    entries: Vec<Entry>,
    asked: Vec<&'static str>,
}

#[derive(Debug, Clone)]
struct Entry {
    key: String,
    key_at: usize,
    /// Text and place; `None` for a bare flag.
    value: Option<(String, usize)>,
}

impl Arguments {
    /// Adds `key=value`, as from a flag of a command.
    pub fn add(&mut self, key: impl Into<String>, value: impl Display) {
        self.push(key.into(), 0, Some((value.to_string(), 0)));
    }

    pub(super) fn push(&mut self, key: String, key_at: usize, value: Option<(String, usize)>) {
        // Names are words with hyphens; who writes pipelines in code may be used to underscores.
        self.entries.push(Entry { key: key.replace('_', "-"), key_at, value });
    }

    /// Whether a flag is set: `name`, `name=true` or `name=false`.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, ArgumentError> {
        match self.single(name)?.map(|e| &e.value) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some((text, at))) => {
                text.parse().map_err(|_| error(*at, format!("{name} is true or false, not '{text}'")))
            }
        }
    }

    /// The value of an option, `None` where it is not given. `what` completes "NAME needs ...".
    pub fn optional<T: FromStr>(&mut self, name: &'static str, what: &str) -> Result<Option<T>, ArgumentError> {
        let Some(entry) = self.single(name)? else { return Ok(None) };
        parsed(entry, name, what).map(Some)
    }

    /// The value of an option that has a default.
    pub fn value<T: FromStr>(&mut self, name: &'static str, what: &str, default: T) -> Result<T, ArgumentError> {
        Ok(self.optional(name, what)?.unwrap_or(default))
    }

    /// An option that takes one of several words.
    pub fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)], default: T) -> Result<T, ArgumentError> {
        let Some(entry) = self.single(name)? else { return Ok(default) };
        let all = words.iter().map(|(w, _)| *w).collect::<Vec<_>>().join(", ");
        let Some((text, at)) = &entry.value else {
            return Err(error(entry.key_at, format!("{name} needs one of {all}")));
        };
        let found = words.iter().find(|(w, _)| w == text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let hint = suggestion(text, words.iter().map(|(w, _)| *w));
            error(*at, format!("{name} is one of {all}, not '{text}'{hint}"))
        })
    }

    /// All values of an option that may be repeated, in the order given.
    pub fn repeated<T: FromStr>(&mut self, name: &'static str, what: &str) -> Result<Vec<T>, ArgumentError> {
        self.asked.push(name);
        self.entries.iter().filter(|e| e.key == name).map(|e| parsed(e, name, what)).collect()
    }

    /// Refuses what was not asked for. Called when the pass is made.
    pub fn finish(&self, pass: &str) -> Result<(), ArgumentError> {
        let Some(entry) = self.entries.iter().find(|e| !self.asked.contains(&e.key.as_str())) else { return Ok(()) };
        let text = if self.asked.is_empty() {
            format!("{pass} takes no arguments, so no '{}'", entry.key)
        } else {
            let hint = suggestion(&entry.key, self.asked.iter().copied());
            format!("{pass} has no argument '{}'{hint}", entry.key)
        };
        Err(error(entry.key_at, text))
    }

    fn single(&mut self, name: &'static str) -> Result<Option<&Entry>, ArgumentError> {
        self.asked.push(name);
        let mut found = self.entries.iter().filter(|e| e.key == name);
        let first = found.next();
        match found.next() {
            Some(second) => {
                let at = second.value.as_ref().map_or(second.key_at, |v| v.1);
                Err(error(at, format!("{name} is given twice")))
            }
            None => Ok(first),
        }
    }
}

fn parsed<T: FromStr>(entry: &Entry, name: &str, what: &str) -> Result<T, ArgumentError> {
    match &entry.value {
        None => Err(error(entry.key_at, format!("{name} needs {what}"))),
        Some((text, at)) => text.parse().map_err(|_| error(*at, format!("{name} needs {what}, not '{text}'"))),
    }
}

fn error(at: usize, text: String) -> ArgumentError {
    ArgumentError { at, text }
}

fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map(|n| format!("; did you mean '{n}'?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_typed_and_repeatable() {
        let mut a = Arguments::default();
        a.add("ratio", 0.5);
        a.add("layer", "conv*=0.3");
        a.add("layer", "fc=0");
        a.add("by", "degre");
        assert_eq!(a.value("ratio", "a number", 0.1), Ok(0.5));
        assert_eq!(a.value("seed", "a number", 7u64), Ok(7));
        assert_eq!(a.repeated::<String>("layer", "GLOB=RATIO").unwrap(), ["conv*=0.3", "fc=0"]);
        let by = a.choice("by", &[("degree", 1), ("l1", 2)], 1).unwrap_err();
        assert_eq!(by.text, "by is one of degree, l1, not 'degre'; did you mean 'degree'?");
        assert_eq!(a.finish("prune"), Ok(()));
    }
}
