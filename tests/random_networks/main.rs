//! Random small networks: whatever is removed from one, it computes what its masked original computes.
//!
//! Networks are drawn block by block from the operator table ([`convolutions`], [`channels`], [`space`], [`tokens`], [`norms`]),
//! with weights wherever exporters leave them ([`weights`]) and shapes that are stated or computed ([`shapes`]). Each is
//! pruned by a random criterion, dense layers included, and held against its masked original in this process. What
//! the interpreter cannot run must stay a small share, and most networks must lose something.
//!
//! A failure prints the smallest network of its seed that fails, as a fixture for `fixtures/coupling`.
//!
//! `cargo test --test random_networks` draws a few hundred, `cargo test --release --test random_networks -- --ignored`
//! ten thousand; `SECATEUR_NETWORKS=FIRST..END` draws those of these seeds instead.

mod channels;
mod convolutions;
mod draft;
mod norms;
mod shapes;
mod space;
mod tokens;
mod weights;

use draft::{Draft, Random, Value};
use rayon::prelude::*;
use secateur::ir::Model;
use secateur::onnx::text::parse_fixture;
use secateur::passes::{Context, Pipeline};
use secateur::plan::Outcome;
use secateur::verify::{self, verify};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Appends a block to a network; `None` where the value does not suit it.
type Block = fn(&mut Draft, &Value) -> Option<Value>;

/// Blocks of the largest networks.
const MOST_BLOCKS: usize = 6;

#[test]
fn a_few_hundred() {
    check(range().unwrap_or(0..400), Norms::Pin);
}

#[test]
fn a_few_hundred_through_norms() {
    check(range().unwrap_or(0..400), Norms::Pass);
}

#[test]
#[ignore = "takes minutes"]
fn ten_thousand() {
    check(range().unwrap_or(0..10_000), Norms::Pin);
}

#[test]
#[ignore = "takes minutes"]
fn five_thousand_through_norms() {
    check(range().unwrap_or(0..5_000), Norms::Pass);
}

/// What statistics over channels do to a removal.
#[derive(Clone, Copy, PartialEq)]
enum Norms {
    Pin,
    /// They become those of the channels that stay; half of the networks' blocks are such.
    Pass,
}

fn range() -> Option<Range<u64>> {
    let text = std::env::var("SECATEUR_NETWORKS").ok()?;
    let (first, end) = text.split_once("..").expect("FIRST..END");
    Some(first.parse().expect("a seed")..end.parse().expect("a seed"))
}

fn check(seeds: Range<u64>, norms: Norms) {
    let total = seeds.end - seeds.start;
    let results: Vec<(u64, Drawn, Judged)> = seeds
        .into_par_iter()
        .map(|seed| {
            let drawn = draw(seed, 1 + (seed as usize) % MOST_BLOCKS, norms);
            let judged = judge(&drawn.text, &drawn.prune);
            (seed, drawn, judged)
        })
        .collect();
    let (mut pruned, mut removed) = (0, 0);
    let mut failed = Vec::new();
    let mut cannot: BTreeMap<String, u64> = BTreeMap::new();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for (seed, drawn, judged) in &results {
        used.extend(drawn.used.iter().map(String::as_str));
        match judged {
            Judged::Equal(n) => {
                pruned += u64::from(*n > 0);
                removed += n;
            }
            Judged::Cannot(why) => *cannot.entry(why.clone()).or_default() += 1,
            Judged::Wrong(why) => failed.push((*seed, why)),
        }
    }
    let unproved: u64 = cannot.values().sum();
    println!(
        "{total} networks: {pruned} pruned of {removed} classes, {unproved} cannot be run, {} wrong",
        failed.len()
    );
    println!("operators: {}", used.iter().copied().collect::<Vec<_>>().join(" "));
    cannot.iter().for_each(|(why, n)| println!("cannot: {n} times: {why}"));
    failed.iter().for_each(|(seed, why)| println!("wrong: seed {seed}: {why}"));
    for (seed, why) in failed.iter().take(8) {
        println!("---- seed {seed}: {why}\n{}", smallest(*seed, norms));
    }
    let seeds: Vec<u64> = failed.iter().map(|f| f.0).collect();
    assert!(failed.is_empty(), "wrong: seeds {seeds:?}");
    assert!(unproved * 50 <= total, "{unproved} of {total} networks cannot be run");
    assert!(pruned * 10 >= total * 9, "only {pruned} of {total} networks lose anything");
}

/// A network as text, and what it is asked to lose.
struct Drawn {
    text: String,
    prune: String,
    used: BTreeSet<String>,
}

fn draw(seed: u64, blocks: usize, norms: Norms) -> Drawn {
    let mut d = Draft::new(Random::new(seed));
    let ratio = d.random.pick(&[0.25, 0.4, 0.5, 0.5, 0.75]);
    let mut prune = format!("ratio={ratio}, by=random, seed={seed}, dense=true");
    if d.random.chance(10) {
        prune += ", multiple-of=2";
    }
    if norms == Norms::Pass {
        prune += ", allow-inexact=norm";
    }
    let dims = d.random.pick(&[1, 2, 2, 2, 2, 3]);
    let extent = [16, 8, 4][dims - 1];
    let batch = d.random.pick(&[None, None, Some(1), Some(2)]);
    // In three axes of space sizes of symbols cost too much.
    let symbolic = dims < 3 && d.random.chance(30);
    let space = if symbolic { None } else { Some(extent) };
    let shape: Vec<Option<usize>> = [batch, Some(3)].into_iter().chain(vec![space; dims]).collect();
    let input = d.input(&shape, &["N", "", "H", "W", "D"]);
    let stem = convolutions::width(&mut d).max(4);
    let mut x = convolutions::layer(&mut d, &input, stem, 1);
    let all: Vec<(&str, Block)> = [convolutions::BLOCKS, channels::BLOCKS, space::BLOCKS, tokens::BLOCKS].concat();
    let mut written = 0;
    while written < blocks {
        let of = if norms == Norms::Pass && d.random.chance(50) { norms::BLOCKS } else { &all };
        let (name, block) = d.random.pick(of);
        if x.channels() > 24 {
            x = convolutions::conv(&mut d, &x, convolutions::Conv::point(6));
        }
        if let Some(next) = block(&mut d, &x) {
            x = next;
            written += 1;
            d.used.insert(format!("({name})"));
        }
    }
    space::head(&mut d, &x);
    Drawn { text: d.text(&prune, seed), prune, used: d.used }
}

enum Judged {
    /// Equal to the masked original; so many classes were removed.
    Equal(u64),
    Cannot(String),
    Wrong(String),
}

fn judge(text: &str, prune: &str) -> Judged {
    match catch_unwind(AssertUnwindSafe(|| judged(text, prune))) {
        Ok(Ok(judged)) => judged,
        Ok(Err(why)) => Judged::Wrong(why),
        Err(_) => Judged::Wrong("a panic".to_owned()),
    }
}

fn judged(text: &str, prune: &str) -> Result<Judged, String> {
    let model = Model::import(parse_fixture(text).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    let mut pruned = model.clone();
    let pipeline = Pipeline::parse(&format!("prune({prune})")).map_err(|e| e.to_string())?;
    let outcomes = pipeline.run(&mut pruned, &Context::default(), &mut |_| ()).map_err(|e| e.to_string())?;
    let plan = outcomes[0].1.plan.as_ref().ok_or("a prune makes a plan")?;
    if let Some(group) = plan.groups.iter().find(|g| g.removed.is_empty() && g.reason.is_none()) {
        return Err(format!("group {} is left without a reason", group.id));
    }
    pruned.check().map_err(|e| e.to_string())?;
    let removed = plan.groups.iter().map(|g| g.removed.len() as u64).sum();
    // Other sizes than the analysis assumed, and small ones.
    let sizes = [("N", 2), ("H", 16), ("W", 8), ("D", 4)].map(|(symbol, n)| (symbol.to_owned(), n));
    let options = verify::Options { sizes: sizes.into_iter().collect(), ..Default::default() };
    let verified = verify(&model, &pruned, plan, &options).map_err(|e| e.to_string())?;
    match verified.outcome {
        Outcome::Equal => Ok(Judged::Equal(removed)),
        Outcome::Cannot => Ok(Judged::Cannot(verified.reason.unwrap_or_default())),
        Outcome::Different => Err(format!("differs by {:?}", verified.max_relative_error)),
    }
}

/// The network of a seed with the fewest blocks that is still wrong.
fn smallest(seed: u64, norms: Norms) -> String {
    let drawn = (1..=MOST_BLOCKS).map(|blocks| draw(seed, blocks, norms));
    let wrong = drawn.into_iter().find(|d| matches!(judge(&d.text, &d.prune), Judged::Wrong(_)));
    wrong.map_or_else(|| "it is right alone".to_owned(), |d| d.text)
}
