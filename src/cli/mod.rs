//! The command line.
//!
//! Guarantees: every command ends with one of the exit codes of [`EXIT_CODES`]; a command that fails says why in one
//! paragraph on standard error, by file, node and value, and leaves no file behind. The same arguments print the same
//! bytes wherever standard output is no terminal.
//! How: one command is one file with its arguments and a `run`, and one line in `Command` and in `dispatch`. All
//! of them see the streams through a [`Console`], so that a test can run the whole program in its own process.

mod apply;
mod calibrate;
mod choice;
mod console;
mod diff;
mod eval;
mod explain;
mod failure;
mod inspect;
mod near;
mod passes;
mod pipeline;
mod prune;
mod run;
mod scored;
mod sizes;
mod source;
mod sweep;
mod target;
mod verify;

pub use console::Console;
pub use failure::{DONE, FAILED, Failure, REFUSED, UNVERIFIED, USAGE};

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Read, Write};

/// What the exit codes mean; shown at the end of the help.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: a file could not be read, worked on or written
  2  usage: the arguments do not make sense, or name something that is not in the model
  3  verification failed: the pruned model does not compute what it should
  4  a --target cannot be reached; or refused under --strict: nothing could be cut, or the result could not be verified

IN and OUT may be '-' for standard input and output.";

#[derive(Debug, Parser)]
#[command(name = "secateur", version, about, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a model smaller: choose filters, remove them and all that belongs to them, verify, clean up
    Prune(prune::Args),
    /// Run a pipeline of passes of your own
    Run(run::Args),
    /// List layers, parameters, MACs and groups, what can be cut and what pins the rest
    Inspect(inspect::Args),
    /// Show the chain of operators that couples or pins a layer's channels
    Explain(explain::Args),
    /// Check that a pruned model computes what the original computes without the removed channels
    Verify(verify::Args),
    /// Compare two models node by node
    Diff(diff::Args),
    /// Replay a plan on the same model, or on another checkpoint of it
    Apply(apply::Args),
    /// Measure top-1 accuracy on labelled data
    Eval(eval::Args),
    /// Measure what the model is worth at each size: a curve of size against accuracy, or against drift without labels
    Sweep(sweep::Args),
    /// List the passes, or describe one
    Passes(passes::Args),
}

fn dispatch(command: Command, console: &mut Console) -> Result<(), Failure> {
    match command {
        Command::Prune(args) => prune::run(args, console),
        Command::Run(args) => run::run(args, console),
        Command::Inspect(args) => inspect::run(args, console),
        Command::Explain(args) => explain::run(args, console),
        Command::Verify(args) => verify::run(args, console),
        Command::Diff(args) => diff::run(args, console),
        Command::Apply(args) => apply::run(args, console),
        Command::Eval(args) => eval::run(args, console),
        Command::Sweep(args) => sweep::run(args, console),
        Command::Passes(args) => passes::run(args, console),
    }
}

/// Runs one command on streams that are no terminal; the first argument is the program's name. Returns the exit code.
pub fn main_with(
    args: impl IntoIterator<Item = OsString>,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    execute(args, &mut Console::plain(stdin, stdout, stderr))
}

/// Runs the command that this process was started with.
pub fn main() -> u8 {
    let (mut stdin, mut stdout, mut stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let (printed, watched) = (stdout.is_terminal(), stderr.is_terminal());
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let mut console = Console::plain(&mut stdin, &mut stdout, &mut stderr);
    console.width = printed.then(|| terminal_size::terminal_size().map(|(w, _)| w.0)).flatten();
    console.watched = watched;
    console.colour = watched && !no_colour;
    execute(std::env::args_os(), &mut console)
}

fn execute(args: impl IntoIterator<Item = OsString>, console: &mut Console) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render();
            let text = if console.colour { text.ansi().to_string() } else { text.to_string() };
            // Help and version are results, mistakes are not. If neither can be said, the code says it.
            let out = if error.use_stderr() { &mut *console.stderr } else { &mut *console.stdout };
            let _ = out.write_all(text.as_bytes());
            return if error.use_stderr() { USAGE } else { DONE };
        }
    };
    match dispatch(cli.command, console).and_then(|()| console.stdout.flush().map_err(Failure::from)) {
        Ok(()) => DONE,
        Err(failure) if failure.message.is_empty() => failure.code,
        Err(failure) => {
            console.error(&failure.to_string());
            failure.code
        }
    }
}

/// Printing failed. A reader that has seen enough (`| head`) is no failure.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::new(DONE, ""),
            _ => Self::failed(format!("standard output cannot be written: {error}")),
        }
    }
}
