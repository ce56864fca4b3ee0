//! Where a command reads from and prints to.
//!
//! Guarantees: what is printed to something that is no terminal is the same everywhere: no colour, no control
//! characters, tables as wide as their content. Nothing is drawn on standard error unless a person watches it.

use crate::report::Table;
use comfy_table::{CellAlignment, ContentArrangement, TableStyle};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{self, Read, Write};
use std::time::Duration;

/// The three streams and what is known of them.
pub struct Console<'a> {
    pub stdin: &'a mut dyn Read,
    pub stdout: &'a mut dyn Write,
    pub stderr: &'a mut dyn Write,
    /// Columns of the terminal that standard output is; `None` if it is none.
    pub width: Option<u16>,
    /// Whether standard error may be drawn on.
    pub watched: bool,
    /// Whether standard error takes colours.
    pub colour: bool,
    /// Whether standard output carries a model, so that words go to standard error.
    pub binary: bool,
}

impl<'a> Console<'a> {
    /// Streams that are no terminal.
    pub fn plain(stdin: &'a mut dyn Read, stdout: &'a mut dyn Write, stderr: &'a mut dyn Write) -> Self {
        Self { stdin, stdout, stderr, width: None, watched: false, colour: false, binary: false }
    }

    fn words(&mut self) -> &mut dyn Write {
        if self.binary { self.stderr } else { self.stdout }
    }

    /// A line for the reader.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.words(), "{text}")
    }

    /// Whole lines for the reader.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.words().write_all(text.as_bytes())
    }

    /// A value for machines.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        self.line(&text)
    }

    /// A table, wrapped to the terminal.
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        let text = layout(table, self.width);
        self.line(&text)
    }

    /// A remark that is no result. Failing to make it is no failure.
    pub fn warn(&mut self, text: &str) {
        let _ = writeln!(self.stderr, "{} {text}", self.painted("warning:", "33"));
    }

    pub fn error(&mut self, text: &str) {
        let _ = writeln!(self.stderr, "{} {text}", self.painted("error:", "31"));
    }

    fn painted(&self, text: &str, colour: &str) -> String {
        if self.colour { format!("\x1b[1;{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A bar of `steps` steps; hidden unless somebody watches.
    pub fn progress(&self, steps: usize) -> ProgressBar {
        if !self.watched {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} [{bar:24}] {msg} ({elapsed})").expect("a valid template");
        bar.set_style(style.progress_chars("=> "));
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }
}

/// A table as text, without trailing blanks.
pub fn layout(table: &Table, width: Option<u16>) -> String {
    let mut out = comfy_table::Table::new();
    out.load_style(TableStyle::new());
    out.set_content_arrangement(match width {
        Some(_) => ContentArrangement::Dynamic,
        None => ContentArrangement::Disabled,
    });
    if let Some(width) = width {
        out.set_width(width);
    }
    out.set_header(table.columns.iter().map(|c| c.title));
    for row in &table.rows {
        out.add_row(row);
    }
    for (i, column) in table.columns.iter().enumerate() {
        let target = out.column_mut(i).expect("a column for each title");
        target.set_padding((if i == 0 { 0 } else { 1 }, 1));
        if column.right {
            target.set_cell_alignment(CellAlignment::Right);
        }
    }
    out.trim_fmt()
}
