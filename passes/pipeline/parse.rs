//! The text of a pipeline.

use super::super::{REGISTRY, Registration, find};
use super::{Arguments, Pipeline, PipelineError, nearest};

pub(super) fn pipeline(text: &str) -> Result<Pipeline, PipelineError> {
    let mut scan = Scanner { text, at: 0 };
    let mut passes = Vec::new();
    loop {
        let (registration, at) = scan.pass()?;
        let mut arguments = Arguments::default();
        if scan.matches('(') {
            scan.arguments(&mut arguments)?;
        }
        let made = (registration.make)(&mut arguments);
        let finished = made.and_then(|pass| arguments.finish(registration.name).map(|()| pass));
        passes.push(finished.map_err(|e| PipelineError { at: e.at.max(at), text: e.text })?);
        if scan.rest().is_empty() {
            return Ok(Pipeline { passes });
        }
        if !scan.matches(',') {
            return Err(scan.error("',' is expected between passes"));
        }
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// What is left, spaces skipped.
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn matches(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn error(&self, text: impl Into<String>) -> PipelineError {
        PipelineError { at: self.at, text: text.into() }
    }

    /// Everything up to one of `ends`, without the spaces before it.
    fn word(&mut self, ends: &[char]) -> &'a str {
        let rest = self.rest();
        let word = rest[..rest.find(ends).unwrap_or(rest.len())].trim_end();
        self.at += word.len();
        word
    }

    fn pass(&mut self) -> Result<(&'static Registration, usize), PipelineError> {
        self.rest();
        let at = self.at;
        let name = self.word(&[',', '(', ')', ' ', '\n', '\t']);
        if name.is_empty() {
            return Err(self.error("a pass is expected"));
        }
        let found = find(name).ok_or_else(|| {
            let near = nearest(name, REGISTRY.iter().map(|r| r.name));
            let hint = near.map_or_else(
                || format!("; there are {}", REGISTRY.iter().map(|r| r.name).collect::<Vec<_>>().join(", ")),
                |n| format!("; did you mean '{n}'?"),
            );
            PipelineError { at, text: format!("there is no pass '{name}'{hint}") }
        })?;
        Ok((found, at))
    }

    /// Arguments up to the closing parenthesis.
    fn arguments(&mut self, arguments: &mut Arguments) -> Result<(), PipelineError> {
        if self.matches(')') {
            return Ok(());
        }
        loop {
            self.rest();
            let at = self.at;
            let key = self.word(&['=', ',', ')']).to_owned();
            if key.is_empty() {
                return Err(self.error("the name of an argument is expected"));
            }
            let value = if self.matches('=') { Some(self.value()?) } else { None };
            arguments.push(key, at, value);
            if self.matches(')') {
                return Ok(());
            }
            if !self.matches(',') {
                return Err(self.error("',' or ')' is expected"));
            }
        }
    }

    fn value(&mut self) -> Result<(String, usize), PipelineError> {
        let rest = self.rest();
        let at = self.at;
        if !rest.starts_with('"') {
            return Ok((self.word(&[',', ')']).to_owned(), at));
        }
        let mut value = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok((value, at));
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        Err(self.error("the quoted text has no end"))
    }
}
