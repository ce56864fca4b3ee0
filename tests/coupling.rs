//! Every fixture under `fixtures/coupling` is pruned as its header says: one small network for each way in which
//! channels are coupled, and for each reason to leave them.
//!
//! `# secateur: prune=...` are the options, `seed=...` fills the weights. The snapshot beside the fixture shows the
//! model before and after, each group's verdict and what the plan says is no longer read. Asserted, never recorded:
//! the pruned model computes what the original computes with these reads set to zero, within 1e-4 of the largest
//! output. With `pinned=GROUP` nothing may be removed and that group must be pinned, otherwise something must go; `run=no`
//! is for models that cannot be run in this process, and that they indeed cannot is asserted too.

mod fixture;

use fixture::Fixture;
use secateur::ir::Model;
use secateur::passes::{Context, Pipeline};
use secateur::plan::{InexactCut, Outcome, Plan, VerdictKind};
use secateur::verify::{self, verify};
use std::fmt::Write;

#[test]
fn fixtures() {
    fixture::each("coupling", check);
}

fn check(fixture: &Fixture) {
    let path = fixture.path.display();
    let options = fixture.directive("prune").unwrap_or_else(|| panic!("{path} has no options of prune"));
    let mut pruned = fixture.model.clone();
    let pipeline = Pipeline::parse(&format!("prune({options})")).unwrap();
    let outcomes = pipeline.run(&mut pruned, &Context::default(), &mut |_| ()).unwrap();
    let plan = outcomes[0].1.plan.as_ref().unwrap();
    let after = pruned.export();

    let mut report =
        format!("{}\n---- prune({options}) ---->\n\n{}\n", fixture.text(&fixture.proto), fixture.text(&after));
    describe(plan, &mut report);

    let removed: usize = plan.groups.iter().map(|g| g.removed.len()).sum();
    match fixture.directive("pinned") {
        Some(id) => {
            assert_eq!(removed, 0, "{path}: something was removed\n{report}");
            let group = plan.groups.iter().find(|g| g.id == id).unwrap_or_else(|| panic!("{path}: no group {id}"));
            assert_eq!(group.verdict, VerdictKind::Pinned, "{path}: {id}\n{report}");
            assert!(group.reason.is_some(), "{path}: {id} is pinned without a reason");
            assert_eq!(after, fixture.model.export(), "{path}: changed, though nothing was removed");
        }
        None => {
            assert!(removed > 0, "{path}: nothing was removed\n{report}");
            let read = !plan.reads.is_empty() || !plan.inexact.is_empty();
            assert!(read, "{path}: nothing reads what was removed\n{report}");
        }
    }
    Model::import(after).unwrap().check().unwrap();
    let verified = verify(&fixture.model, &pruned, plan, &verify::Options::default()).unwrap();
    match fixture.directive("run") {
        Some("no") => assert_eq!(verified.outcome, Outcome::Cannot, "{path} says run=no, but it can be run"),
        _ => {
            assert_eq!(verified.outcome, Outcome::Equal, "{path}: {verified:?}\n{report}");
            assert!(verified.max_relative_error.unwrap() < 1e-4, "{path}: {verified:?}");
        }
    }
    fixture.snapshot(&report);
}

/// The verdict of each group and the reads of the plan.
fn describe(plan: &Plan, out: &mut String) {
    for group in &plan.groups {
        let verdict = match group.verdict {
            VerdictKind::Pruned => format!("pruned, removed {:?}", group.removed),
            VerdictKind::Kept => "kept".to_owned(),
            VerdictKind::Pinned => "pinned".to_owned(),
        };
        writeln!(out, "group {} of {} channels: {verdict}", group.id, group.channels).unwrap();
        if let Some(reason) = &group.reason {
            let node = reason.node.as_deref().unwrap_or("-");
            writeln!(out, "  {node}: {}: {}", reason.rule, reason.text).unwrap();
        }
        // Which representation was taken is another test's business; what is said of pinned filters is this one's.
        for note in group.note.iter().flat_map(|n| n.split("; ")).filter(|n| n.contains("pinned")) {
            writeln!(out, "  {note}").unwrap();
        }
        for member in &group.members {
            let tensor = member.tensor.as_deref().unwrap_or("-");
            writeln!(out, "  {} {tensor} axis {} {:?}", member.node, member.axis, member.channels).unwrap();
        }
    }
    for InexactCut { output, op, input, axes, parts, removed, count: [before, after] } in &plan.inexact {
        let of = format!("{op} {output} of input {input}, axes {axes:?} in {parts} parts without {removed:?}");
        writeln!(out, "inexact {of}: of {after} for {before}").unwrap();
    }
    for read in &plan.reads {
        let rows = read.rows.map(|[first, end]| format!(", rows {first} to {end}")).unwrap_or_default();
        let (node, tensor, axis) = (&read.node, &read.tensor, read.axis);
        writeln!(out, "read {node} {tensor} axis {axis}{rows}: without {:?}", read.removed).unwrap();
    }
}
