//! Characters to words, numbers and strings, with their places.
//!
//! How: the grammar has no tokens of its own (what a word is depends on where it stands), so the parser asks for what
//! it expects. White space and `#` comments are skipped before each.

use super::names::is_special_float;

/// Why a text is not a model, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal<'a> {
    Int(&'a str),
    Float(&'a str),
    Text(String),
}

pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The place of what comes next.
    pub fn mark(&mut self) -> usize {
        self.skip();
        self.at
    }

    pub fn error_at(&self, at: usize, message: impl Into<String>) -> ParseError {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }

    /// An error at what comes next, which is quoted.
    pub fn expected(&mut self, what: &str) -> ParseError {
        let at = self.mark();
        let rest = &self.text[at..];
        let found = match rest.chars().next() {
            None => "the end of the text".to_owned(),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => format!("'{}'", word(rest)),
            Some(c) => format!("'{c}'"),
        };
        self.error_at(at, format!("expected {what}, found {found}"))
    }

    fn skip(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let blank = rest.bytes().take_while(|b| b" \t\n\x0b\x0c\r".contains(b)).count();
            self.at += blank;
            if !rest[blank..].starts_with('#') {
                return;
            }
            self.at += rest[blank..].find('\n').unwrap_or(rest.len() - blank);
        }
    }

    fn rest(&mut self) -> &'a str {
        self.skip();
        &self.text[self.at..]
    }

    pub fn peek(&mut self) -> Option<u8> {
        self.rest().bytes().next()
    }

    pub fn at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// The word that comes next, without taking it; empty if there is none.
    pub fn peek_word(&mut self) -> &'a str {
        word(self.rest())
    }

    pub fn matches(&mut self, expected: char) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    pub fn expect(&mut self, expected: char) -> Result<(), ParseError> {
        if self.matches(expected) { Ok(()) } else { Err(self.expected(&format!("'{expected}'"))) }
    }

    /// `=>`, which is one sign: no space within.
    pub fn expect_arrow(&mut self) -> Result<(), ParseError> {
        if !self.rest().starts_with("=>") {
            return Err(self.expected("'=>'"));
        }
        self.at += 2;
        Ok(())
    }

    /// A word, or nothing.
    pub fn optional_word(&mut self) -> &'a str {
        let found = self.peek_word();
        self.at += found.len();
        found
    }

    pub fn word(&mut self, what: &str) -> Result<&'a str, ParseError> {
        if self.peek_word().is_empty() {
            return Err(self.expected(what));
        }
        Ok(self.optional_word())
    }

    /// A name, quoted or not.
    pub fn name(&mut self, what: &str) -> Result<String, ParseError> {
        if self.peek() == Some(b'"') { self.string(what) } else { self.word(what).map(str::to_owned) }
    }

    pub fn string(&mut self, what: &str) -> Result<String, ParseError> {
        let from = self.mark();
        if !self.matches('"') {
            return Err(self.expected(what));
        }
        let mut value = String::new();
        let mut chars = self.text[self.at..].char_indices();
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += offset + 1;
                    return Ok(value);
                }
                // A backslash stands for nothing but the character after it.
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        Err(self.error_at(from, "this string has no end"))
    }

    pub fn literal(&mut self, what: &str) -> Result<Literal<'a>, ParseError> {
        let rest = self.rest();
        if rest.starts_with('"') {
            return self.string(what).map(Literal::Text);
        }
        let sign = usize::from(rest.starts_with('-'));
        let unsigned = &rest[sign..];
        if is_special_float(word(unsigned)) {
            let length = sign + word(unsigned).len();
            self.at += length;
            return Ok(Literal::Float(&rest[..length]));
        }
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut length = digits(unsigned);
        if length == 0 {
            return Err(self.expected(what));
        }
        let mut float = false;
        if unsigned[length..].starts_with('.') {
            float = true;
            length += 1 + digits(&unsigned[length + 1..]);
        }
        if unsigned[length..].starts_with(['e', 'E']) {
            float = true;
            length += 1;
            length += usize::from(unsigned[length..].starts_with(['+', '-']));
            length += digits(&unsigned[length..]);
        }
        let text = &rest[..sign + length];
        self.at += text.len();
        Ok(if float { Literal::Float(text) } else { Literal::Int(text) })
    }

    /// An integer that fits `T`.
    pub fn integer<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, ParseError> {
        let at = self.mark();
        match self.literal(what)? {
            Literal::Int(text) => text.parse().map_err(|_| self.error_at(at, format!("{text} is out of range"))),
            _ => Err(self.error_at(at, format!("expected {what}"))),
        }
    }

    /// A real number; integers count.
    pub fn real<T: Real>(&mut self, what: &str) -> Result<T, ParseError> {
        let at = self.mark();
        match self.literal(what)? {
            Literal::Int(text) | Literal::Float(text) => {
                real(text).ok_or_else(|| self.error_at(at, format!("{text} is out of range or not a number")))
            }
            Literal::Text(_) => Err(self.error_at(at, format!("expected {what}, found a string"))),
        }
    }
}

/// `f32` or `f64`.
pub(super) trait Real: std::str::FromStr + Copy {
    fn is_infinite(self) -> bool;
}

impl Real for f32 {
    fn is_infinite(self) -> bool {
        self.is_infinite()
    }
}

impl Real for f64 {
    fn is_infinite(self) -> bool {
        self.is_infinite()
    }
}

/// The number that a literal stands for. `None` if it is too large: only the word means infinity.
pub(super) fn real<T: Real>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let named = is_special_float(text.trim_start_matches('-'));
    (named || !value.is_infinite()).then_some(value)
}

fn word(text: &str) -> &str {
    let continues = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    match text.bytes().next() {
        Some(b) if b.is_ascii_alphabetic() || b == b'_' => &text[..text.bytes().take_while(continues).count()],
        _ => "",
    }
}
