//! House rules that a machine can keep: who may use whom, how long a file may be, and names that say nothing.

use std::path::{Path, PathBuf};

/// Longest source file, in lines. Generated code is exempt.
const LONGEST: usize = 500;

/// All files of the repository that are ours, as paths from its root.
fn tree() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "passes", "tests", "benches", "examples", "fixtures"] {
        walk(&root.join(folder), &mut found);
    }
    assert!(found.iter().any(|p| p.ends_with("src/lib.rs")));
    found.iter().map(|p| p.strip_prefix(root).unwrap().to_owned()).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        }
        found.push(path);
    }
}

fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rust = tree().into_iter().filter(|p| p.extension().is_some_and(|e| e == "rs"));
    rust.map(move |p| (p.clone(), std::fs::read_to_string(root.join(p)).unwrap()))
}

fn none(what: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{what}:\n{}", offenders.join("\n"));
}

/// Lines of `text` that use one of `modules`, by path or by a braced import.
fn uses<'a>(text: &'a str, modules: &'a [&str]) -> impl Iterator<Item = (usize, &'a str)> {
    let names = move |line: &str| {
        let code = line.split("//").next().unwrap_or("");
        modules.iter().any(|m| {
            let (parent, leaf) = m.rsplit_once("::").unwrap_or(("", m));
            let braced = code.split_once(&format!("{parent}::{{")).is_some_and(|(_, rest)| {
                rest.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == leaf)
            });
            let written = code.match_indices(m).any(|(at, _)| {
                let next = code[at + m.len()..].chars().next();
                !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
            });
            written || braced
        })
    };
    text.lines().enumerate().filter(move |(_, line)| names(line)).map(|(i, line)| (i + 1, line))
}

/// A pass rewrites a model that it is given. Where the model comes from and where it goes is not its business, nor who
/// asked for it. What tensors and messages are made of (`onnx::tensor`, `onnx::proto`) it may know.
const BEYOND_PASSES: &[&str] = &["crate::onnx::read", "crate::onnx::write", "crate::cli"];

#[test]
fn passes_neither_read_nor_write_files_nor_know_the_command_line() {
    let ours = sources().filter(|(path, _)| path.starts_with("passes"));
    let offenders: Vec<String> = ours
        .flat_map(|(path, text)| {
            let found: Vec<String> =
                uses(&text, BEYOND_PASSES).map(|(line, code)| format!("{}:{line}: {code}", path.display())).collect();
            found
        })
        .collect();
    none("passes use what they must not know", offenders);
}

#[test]
fn the_layering_test_sees_uses() {
    let found = |text: &'static str| uses(text, BEYOND_PASSES).count();
    assert_eq!(found("use crate::onnx::read::read;\nuse crate::onnx::{tensor, write};\nuse crate::{ir, cli};"), 3);
    assert_eq!(found("crate::cli::main();"), 1);
    assert_eq!(found("use crate::onnx::tensor::Tensor; // not crate::onnx::read\nuse crate::onnx::readable;"), 0);
}

#[test]
fn files_are_short() {
    let generated = |path: &Path| path.starts_with("src/onnx/proto");
    let offenders = sources().filter(|(path, _)| !generated(path)).filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > LONGEST).then(|| format!("{} has {lines} lines", path.display()))
    });
    none(&format!("files over {LONGEST} lines"), offenders.collect());
}

#[test]
fn names_say_something() {
    const EMPTY: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc"];
    let stem = |p: &Path| p.file_stem().and_then(|s| s.to_str()).unwrap_or("").to_owned();
    let offenders = tree().into_iter().filter(|p| EMPTY.contains(&stem(p).as_str()));
    none("names that say nothing", offenders.map(|p| p.display().to_string()).collect());
}
