//! Damaged models through the whole command: an answer or an error, never a panic, never memory out of proportion to
//! the file, never an output file beside an error. Alone in its file, since it counts the allocations of its process.
//!
//! `SECATEUR_FUZZ_SEED` and `SECATEUR_FUZZ_CASES` choose other cases; a failure prints the case that fails, and leaves
//! its model in the folder for temporary files.

mod allocator;
mod damage;

use allocator::{LIVE, PEAK};
use damage::{Random, SEEDS, damaged};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use secateur::onnx::proto::ModelProto;
use secateur::onnx::text::parse_fixture;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

const CASES: usize = 4500;
/// What any run may take, and how much more for each byte of the file.
const FLOOR: usize = 64 << 20;
const FACTOR: usize = 200;
/// A run that verifies and repairs computes activations, whose size is the network's and not the file's.
const RUNNING: usize = 1 << 30;

/// What is done with a model besides pruning it. Models are run for both, which takes a while.
#[derive(Debug, Clone, Copy, PartialEq)]
enum More {
    Nothing,
    Verify,
    Repair,
}

impl More {
    /// Seconds that an answer may take.
    fn patience(self) -> u64 {
        if self == Self::Repair { 60 } else { 10 }
    }
}

/// Runs a case; what is wrong with it, if anything, and the memory it took.
fn run(bytes: &[u8], more: More, through_norms: bool, folder: &Path) -> (Result<u8, String>, usize) {
    let (input, output) = (folder.join("in.onnx"), folder.join("out.onnx"));
    std::fs::write(&input, bytes).expect("a folder to write to");
    let mut args: Vec<OsString> = ["secateur", "prune", "--ratio", "0.5", "-o"].map(OsString::from).into();
    args.extend([output.clone().into_os_string(), input.into_os_string()]);
    let options: &[&str] = match more {
        More::Nothing => &["--no-verify", "--no-repair"],
        More::Verify => &["--verify-each", "--no-repair"],
        More::Repair => &["--no-verify"],
    };
    args.extend(options.iter().map(OsString::from));
    if through_norms {
        args.push("--allow-inexact=norm".into());
    }
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code =
        catch_unwind(AssertUnwindSafe(|| secateur::cli::main_with(args, &mut std::io::empty(), &mut out, &mut err)));
    let peak = PEAK.load(Relaxed).saturating_sub(before);
    let written = output.exists();
    let _ = std::fs::remove_file(&output);
    let entries = std::fs::read_dir(folder).expect("the folder is there").count();
    let limit = if more == More::Nothing { FLOOR + FACTOR * bytes.len() } else { RUNNING };
    let text = String::from_utf8_lossy(&err).into_owned();
    let result = match code {
        Err(_) => Err("it panicked".to_owned()),
        Ok(code) if written != (code == 0) => Err(format!("exit code {code}, output written: {written}: {text}")),
        Ok(code) if entries != 1 => Err(format!("exit code {code} left {} stray files", entries - 1)),
        Ok(code) if !(0..=1).contains(&code) && code != 3 => Err(format!("exit code {code}: {text}")),
        Ok(3) => Err(format!("a wrong model: {text}")),
        Ok(1) if text.trim().is_empty() => Err("an error without a word".to_owned()),
        Ok(1) if text.contains("broken model") => Err(text),
        Ok(_) if peak > limit => Err(format!("{peak} bytes for a file of {}, {limit} allowed", bytes.len())),
        Ok(code) => Ok(code),
    };
    (result, peak)
}

fn encoded(model: &ModelProto) -> Vec<u8> {
    let mut out = Vec::new();
    secateur::onnx::write_to(model, &mut out).expect("memory takes anything");
    out
}

#[test]
fn damaged_models_get_an_answer_or_an_error() {
    let number = |name: &str, default: usize| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (seed, cases) = (number("SECATEUR_FUZZ_SEED", 1), number("SECATEUR_FUZZ_CASES", CASES));
    let only = std::env::var("SECATEUR_FUZZ_ONLY").ok().and_then(|v| v.parse::<usize>().ok());
    let texts = SEEDS.iter().map(|text| encoded(&parse_fixture(text).unwrap_or_else(|e| panic!("{e}\n{text}"))));
    let mut seeds: Vec<Vec<u8>> = texts.collect();
    let real = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/models/dcase21_fsdd.onnx");
    seeds.push(std::fs::read(real).expect("the fixture is there"));
    let folder = tempfile::tempdir().expect("a folder");
    let (start, mut failures, mut answered, mut highest) = (Instant::now(), Vec::new(), 0, 0);
    for case in 0..cases {
        let mut random = Random(ChaCha8Rng::seed_from_u64((seed * 1_000_000 + case) as u64));
        let bytes = damaged(&seeds, &mut random);
        let more = match case % 128 {
            8 => More::Repair,
            n if n % 16 == 0 => More::Verify,
            _ => More::Nothing,
        };
        let through_norms = case / 16 % 2 == 1;
        if only.is_some_and(|only| only != case) {
            continue;
        }
        let clock = Instant::now();
        let (result, peak) = run(&bytes, more, through_norms, folder.path());
        if more == More::Nothing {
            highest = highest.max(peak);
        }
        let result = match clock.elapsed().as_secs() {
            s if s < more.patience() => result,
            seconds => Err(format!("it took {seconds} s")),
        };
        match result {
            Ok(code) => answered += usize::from(code == 0),
            Err(text) => {
                let kept = std::env::temp_dir().join(format!("secateur-robustness-{seed}-{case}.onnx"));
                let _ = std::fs::write(&kept, &bytes);
                failures.push(format!("case {case} of seed {seed} ({}): {text}", kept.display()));
            }
        }
    }
    println!(
        "seed {seed}: {cases} cases, {answered} answered, the others refused; highest peak {} MiB; {:?}",
        highest >> 20,
        start.elapsed()
    );
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    assert!(answered > cases / 10, "only {answered} of {cases} models were still worth an answer");
}
