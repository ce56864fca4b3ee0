//! # What it does
//!
//! Removes channels without a change of any output, rounding apart: the model computes what it computed, on every
//! input. A channel goes if every sum that reads it can do without:
//!
//! - it is **unread**: all weights that read it are zero, or belong to filters that go;
//! - it is **zero** wherever it is read, as after a filter that is zero, a mask, or a normalisation of scale and shift
//!   zero;
//! - it is **constant** wherever it is read: what it adds to a sum moves into the bias, which is made where there is
//!   none;
//! - it is a **duplicate** wherever it is read, of a channel that stays (or a constant that is a multiple of another):
//!   the weights that read it are added to those that read the other.
//!
//! What a channel is follows from numbers given to all slices of all values: one number for what is computed alike from
//! what has one number, through normalisations, activations, products, sums, concatenations, layout operators and
//! pools. What becomes of a constant is found by running the node on it. All that belonged to a channel goes with it,
//! as with `prune`, until nothing more is found: channels that nobody reads any more, and duplicates that arise when
//! what they read has merged.
//!
//! # When it refuses
//!
//! A channel that could go but for one thing is left with a remark:
//!
//! - the rules that pin channels for `prune` (`graph-output`, `mixed-axis` ...): the channel must stay whatever it is.
//! - `padding`: it is a constant other than zero, and a window that reads it leaves the map: at the border the constant
//!   would be missing.
//! - `not-constant-when-read`: its filter is constant, but not what is read of it: something was added on the way.
//! - `bias`: there is no place for the constant: the bias is computed, may be overridden, or is no list.
//! - `operator`: the sum that reads it is not one of plain numbers and a stored weight.
//! - `weight-shared`, `weight-computed`, `weight-type`, `weight-shape`: the weights that read a duplicate are read by
//!   others too, are computed, are integers, or hold the channels in another form than slices, so they stay as they are.
//! - `groups`: the channels of several groups of a convolution would have to go together.
//! - `overridable`: constants are the defaults of inputs: a caller may replace them, so that they tell nothing.
//! - `rounding`: a sum of weights does not fit its type: of half precision it would have to be exact.
//! - `last-channel`: a layer keeps a channel at least.
//! - `checked-after-cut`: the cut was tried, and a shape did not come out as expected.
//!
//! Elements are taken to be finite: zero times infinity is no zero.
//!
//! # Options
//!
//! None.
//!
//! # Example
//!
//! ```text
//! <float[2, 1, 1, 1] w = {0, 1}, float[1, 2, 1, 1] v = {5, 7}>    <float[1, 1, 1, 1] w = {1}, float[1, 1, 1, 1] v = {7}>
//! c = Conv (x, w)                                           ->    c = Conv (x, w)
//! y = Conv (c, v)                                                 y = Conv (c, v)
//! ```

mod choose;
mod evaluate;
mod flow;
mod number;
mod read;
mod record;
mod rewrite;
mod sum;

use super::{ArgumentError, Arguments, Context, Outcome, Pass, PassError, Remark};
use crate::analysis::{Coupling, groups, infer_all};
use crate::ir::Model;
use choose::{Forbidden, Study};
use flow::Numbering;
use record::Record;

/// How many times a choice is tried before the model is left as it is.
const ATTEMPTS: usize = 128;

/// Removes channels without a change of the outputs.
#[derive(Debug, Clone, Default)]
pub struct PruneLossless;

pub(super) fn make(_: &mut Arguments) -> Result<Box<dyn Pass>, ArgumentError> {
    Ok(Box::new(PruneLossless))
}

impl Pass for PruneLossless {
    fn name(&self) -> &'static str {
        "prune-lossless"
    }

    fn run(&self, model: &mut Model, context: &Context) -> Result<Outcome, PassError> {
        let original = model.clone();
        let mut record = Record::new(&original, context);
        // Every round but the last removes something, so that they end.
        loop {
            let coupling = Coupling::in_step(model, infer_all(model, &context.sizes));
            if coupling.worlds.is_empty() {
                let text = "no sizes could be assumed for the model's inputs".to_owned();
                return Err(PassError::new("prune-lossless", text));
            }
            let groups = groups(model, &coupling);
            let uses = model.uses();
            let mut worlds: Vec<Numbering> =
                coupling.worlds.iter().map(|world| Numbering::of(model, &coupling, world)).collect();
            let readings = read::readings(model, &coupling, &mut worlds, &uses);
            let study = Study::new(&coupling, &groups, readings);
            let mut forbidden = Forbidden::new();
            let mut found = None;
            for _ in 0..ATTEMPTS {
                let choice = study.choose(&forbidden);
                if choice.removed.is_empty() {
                    break;
                }
                match rewrite::carry_out(model, &study, &uses, &choice, &context.source) {
                    Ok(new) => {
                        found = Some((choice, new));
                        break;
                    }
                    Err(more) => forbidden.extend(more),
                }
            }
            let Some((choice, new)) = found else {
                record.spared(model, &study, &study.choose(&forbidden));
                record.remark(model, &study, &mut worlds, &forbidden);
                break;
            };
            record.spared(model, &study, &choice);
            record.removed(&study, &choice);
            drop(worlds);
            *model = new;
        }
        let (channels, mut remarks) = (record.channels(), record.remarks());
        let overridable = original.constants().filter(|&v| original.is_overridable(v)).count();
        if overridable > 0 {
            let text =
                format!("{overridable} constants are defaults of inputs, which a caller may replace: not looked into");
            remarks.push(Remark { node: None, rule: "overridable".into(), text });
        }
        let summary = match channels {
            0 => "removed no channels".to_owned(),
            1 => "removed 1 class of channels".to_owned(),
            n => format!("removed {n} classes of channels"),
        };
        let plan = Some(record.plan(&original, model, context));
        Ok(Outcome { changes: channels, summary, remarks, plan, ..Outcome::default() })
    }
}
