//! Every row of the operator table, met by the channels of a convolution: one small network under `fixtures/ops` for
//! each, those of other domains in a folder of that name. A fixture is called by its operator, `-` and what is special.
//!
//! `# secateur: seed=...` fills the weights. Each is pruned by half in a random order and verified: the pruned model
//! computes what the original computes with the plan's reads set to zero. Where the model cannot be run in this process
//! the head says `run=outside: reason`; that it cannot is asserted, and `tests/outside/run` judges all of them.
//! `fixtures/ops/verdicts.snap` shows what became of each group, and `SUPPORTED-OPS.md` is written from the table and
//! these fixtures (with SECATEUR_BLESS=1).

mod fixture;

use fixture::Fixture;
use secateur::analysis::infer_all;
use secateur::ir::{Model, NodeId};
use secateur::ops::absent::{ABSENT, Absent};
use secateur::ops::{Action, NEWEST_OPSET, Narrow, Row, row_named, row_of, rows};
use secateur::passes::{Context, Pipeline};
use secateur::plan::{Outcome, Plan, VerdictKind};
use secateur::verify::{self, verify};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// What a fixture is called: its path below the folder, without extension.
fn title(fixture: &Fixture) -> String {
    let path = fixture.path.strip_prefix(fixture::root().join("ops")).unwrap().with_extension("");
    path.to_str().unwrap().replace('\\', "/")
}

/// Domain and name of the operator that a fixture is about.
fn subject(fixture: &Fixture) -> (String, String) {
    let title = title(fixture);
    let (domain, name) = title.rsplit_once('/').unwrap_or(("", &title));
    (domain.to_owned(), name.split('-').next().unwrap().to_owned())
}

fn row_tested(fixture: &Fixture) -> &'static Row {
    let (domain, name) = subject(fixture);
    row_named(&domain, &name).unwrap_or_else(|| panic!("{}: there is no such row", title(fixture)))
}

fn nodes_of(model: &Model, row: &Row) -> Vec<NodeId> {
    let same = |n: &NodeId| row_of(model.node(*n)).is_some_and(|r| std::ptr::eq(r, row));
    model.walk().into_iter().filter(same).collect()
}

fn pruned(fixture: &Fixture) -> (Model, Plan) {
    let mut model = fixture.model.clone();
    let pipeline = Pipeline::parse("prune(ratio=0.5,by=random,seed=3)").unwrap();
    let outcome = pipeline.run(&mut model, &Context::default(), &mut |_| ()).unwrap().swap_remove(0).1;
    (model, outcome.plan.unwrap())
}

#[test]
fn every_row_has_a_fixture() {
    let met = RefCell::new(BTreeSet::new());
    fixture::each("ops", |fixture| {
        let row = row_tested(fixture);
        assert!(!nodes_of(&fixture.model, row).is_empty(), "{} has no node of its operator", title(fixture));
        met.borrow_mut().insert((row.domain, row.name));
    });
    let missing: Vec<_> = rows().iter().filter(|r| !met.borrow().contains(&(r.domain, r.name))).map(name).collect();
    assert!(missing.is_empty(), "without a fixture: {missing:?}");
}

#[test]
fn no_operator_stands_twice() {
    let mut seen = BTreeSet::new();
    for (domain, name) in rows().iter().map(|r| (r.domain, r.name)).chain(ABSENT.iter().map(|a| (a.0, a.1))) {
        assert!(seen.insert((domain, name)), "{domain} {name}");
    }
}

#[test]
fn fixtures() {
    let report = RefCell::new(String::new());
    fixture::each("ops", |fixture| {
        let title = title(fixture);
        let (model, plan) = pruned(fixture);
        Model::import(model.export()).unwrap().check().unwrap();
        let verified = verify(&fixture.model, &model, &plan, &verify::Options::default()).unwrap();
        let outside = fixture.directive("run").map(|run| {
            let reason = run.strip_prefix("outside: ").unwrap_or_else(|| panic!("{title}: run={run}"));
            assert!(!reason.is_empty(), "{title}: no reason why it cannot be run here");
        });
        match outside {
            Some(()) => assert_eq!(verified.outcome, Outcome::Cannot, "{title}: it can be run here"),
            None => {
                let why = verified.reason.as_deref().unwrap_or_default();
                assert_eq!(verified.outcome, Outcome::Equal, "{title}\t{why} {:?}", verified.max_relative_error);
                assert!(verified.max_relative_error.unwrap() < 1e-4, "{title}: {verified:?}");
            }
        }
        let mut out = report.borrow_mut();
        writeln!(out, "{title}{}", if outside.is_some() { " (run outside)" } else { "" }).unwrap();
        for group in &plan.groups {
            let reason = group.reason.as_ref();
            let why = reason.map(|r| format!(", {}: {}: {}", r.node.as_deref().unwrap_or("-"), r.rule, r.text));
            let (id, of) = (&group.id, group.channels);
            match group.verdict {
                VerdictKind::Pruned => writeln!(out, "  {id}: pruned, {} of {of}", group.removed.len()),
                VerdictKind::Kept => writeln!(out, "  {id}: kept{}", why.unwrap_or_default()),
                VerdictKind::Pinned => writeln!(out, "  {id}: pinned{}", why.unwrap_or_default()),
            }
            .unwrap();
        }
    });
    insta::with_settings!({
        snapshot_path => fixture::root().join("ops"),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("verdicts", report.into_inner());
    });
}

/// What the fixtures of one operator show.
#[derive(Default)]
struct Shown {
    /// The ways in which channels pass it.
    ways: BTreeSet<&'static str>,
    /// Whether the channels of the convolution before it are removed in any.
    through: bool,
    /// The rules by which it pins.
    pins: BTreeSet<String>,
}

fn shown() -> BTreeMap<(&'static str, &'static str), Shown> {
    let all: RefCell<BTreeMap<_, Shown>> = RefCell::default();
    fixture::each("ops", |fixture| {
        let row = row_tested(fixture);
        let nodes = nodes_of(&fixture.model, row);
        let (_, plan) = pruned(fixture);
        let mut all = all.borrow_mut();
        let entry = all.entry((row.domain, row.name)).or_default();
        let shapes = infer_all(&fixture.model, &BTreeMap::new()).swap_remove(0);
        for &n in &nodes {
            let Some(Ok(effect)) = shapes.effect(n) else { continue };
            entry.ways.insert(way(&effect.action));
        }
        let labels: BTreeSet<String> = nodes.iter().map(|&n| fixture.model.label(n)).collect();
        for group in &plan.groups {
            entry.through |= group.id == "conv1" && group.verdict == VerdictKind::Pruned;
            let reason = group.reason.as_ref().filter(|r| r.node.as_ref().is_some_and(|n| labels.contains(n)));
            // That its result is an output of the model says nothing of the operator.
            let told = reason.filter(|r| group.verdict == VerdictKind::Pinned && r.rule != "graph-output");
            entry.pins.extend(told.map(|r| r.rule.clone()));
        }
    });
    all.into_inner()
}

fn way(action: &Action) -> &'static str {
    match action {
        Action::ShapeOnly => "only shapes are read",
        Action::Map(operands) if operands.is_empty() => "nothing but parameters",
        Action::Map(operands) if operands.iter().any(|o| o.axes.contains(&None)) => "place by place, some axes mixed",
        Action::Map(_) => "place by place",
        Action::Layout { .. } => "rearranged",
        Action::Concat { .. } => "end to end",
        Action::Contract(_) => "sum of products",
        Action::Opaque(_) => "not followed",
    }
}

fn narrowed(row: &Row) -> &'static str {
    match row.narrow {
        Narrow::Nothing => "",
        Narrow::Group => "group",
        Narrow::Target { .. } => "target shape",
        Narrow::SplitSizes => "sizes of the parts",
        Narrow::SliceBounds => "bounds",
        Narrow::Indices => "positions",
        Narrow::PadAmounts => "amounts",
    }
}

fn name(row: &Row) -> String {
    if row.domain.is_empty() { row.name.to_owned() } else { format!("{}.{}", row.domain, row.name) }
}

fn supported() -> String {
    let shown = shown();
    let mut out = format!(
        "# Supported operators\n\n\
         Written by `SECATEUR_BLESS=1 cargo test --test ops` from the operator table (`src/ops/table.rs`) and the\n\
         fixtures of each operator (`fixtures/ops`); a test fails when it is stale.\n\n\
         *from* is the first version of the operator set whose meaning is known, up to {NEWEST_OPSET} for ONNX's own.\n\
         *channels* is how they pass. *removed* says whether a fixture has channels removed through the operator, and\n\
         *pins by* the rules (CORRECTNESS.md) by which it pins channels in others. *narrowed* is what follows a cut.\n"
    );
    for (domain, title) in [("", "ONNX"), ("com.microsoft", "onnxruntime (`com.microsoft`)")] {
        writeln!(out, "\n## {title}\n\n| operator | from | channels | removed | pins by | narrowed |").unwrap();
        writeln!(out, "|---|---|---|---|---|---|").unwrap();
        let mut listed: Vec<&Row> = rows().iter().filter(|r| r.domain == domain).collect();
        listed.sort_by_key(|r| r.name.to_lowercase());
        for row in listed {
            let Shown { ways, through, pins } = &shown[&(row.domain, row.name)];
            let join = |set: Vec<&str>| set.join("; ");
            let ways = join(ways.iter().copied().collect());
            let pins = join(pins.iter().map(String::as_str).collect());
            let removed = if *through { "yes" } else { "no" };
            writeln!(out, "| {} | {} | {ways} | {removed} | {pins} | {} |", row.name, row.since, narrowed(row))
                .unwrap();
        }
    }
    out.push_str(
        "\n## Without a row\n\n\
         These, and all that are not listed, pin the channels that reach them. `Constant` needs none: it is a constant.\n\n\
         | why | operators |\n|---|---|\n",
    );
    for why in Absent::ALL {
        let of = ABSENT.iter().filter(|(_, _, w)| *w == why);
        let names: Vec<String> =
            of.map(|(d, n, _)| if d.is_empty() { (*n).to_owned() } else { format!("{d}.{n}") }).collect();
        writeln!(out, "| {} | {} |", why.text(), names.join(", ")).unwrap();
    }
    out
}

#[test]
fn supported_ops_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("SUPPORTED-OPS.md");
    let text = supported();
    if std::env::var_os("SECATEUR_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "SUPPORTED-OPS.md is stale; SECATEUR_BLESS=1 cargo test --test ops writes it");
}
