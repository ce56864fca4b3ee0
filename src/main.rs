//! The command `secateur`; all of it is in [`secateur::cli`].

fn main() -> std::process::ExitCode {
    secateur::cli::main().into()
}
