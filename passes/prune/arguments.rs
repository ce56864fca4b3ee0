//! The options of `prune`, by the names that the command line and pipelines share.

use super::super::{ArgumentError, Arguments, Pass};
use super::{Dense, Prune, PruneOptions};
use crate::analysis::Inexact;
use crate::importance::{self, Criterion, Reading, Representation, Similarity};

/// Reads the options; what is not given has its default.
pub fn make(a: &mut Arguments) -> Result<Box<dyn Pass>, ArgumentError> {
    let default = PruneOptions::default();
    let options = PruneOptions {
        ratio: a.value("ratio", RATIO, Ratio(default.ratio))?.0,
        target: a.optional("target", TARGET)?,
        layers: a
            .repeated::<Layer>("layer", "GLOB=RATIO with 0 <= RATIO < 1")?
            .into_iter()
            .map(|l| (l.0, l.1))
            .collect(),
        exclude: a.repeated("exclude", "a glob")?,
        importance: importance::Options {
            criterion: a.choice("by", &names(Criterion::ALL, Criterion::name), default.importance.criterion)?,
            representation: a.choice(
                "representation",
                &names(Representation::ALL, Representation::name),
                default.importance.representation,
            )?,
            similarity: a.choice(
                "similarity",
                &names(Similarity::ALL, Similarity::name),
                default.importance.similarity,
            )?,
            reading: a.choice("reading", &names(Reading::ALL, Reading::name), default.importance.reading)?,
            keep_central: a.choice("keep", &[("common", false), ("central", true)], false)?,
            one_at_a_time: a.flag("one-at-a-time")?,
            seed: a.value("seed", "a number", default.importance.seed)?,
        },
        otherwise: default.otherwise,
        multiple_of: a.value("multiple-of", "a number of channels, at least 1", AtLeastOne(default.multiple_of))?.0,
        min_channels: a.value("min-channels", "a number of channels, at least 1", AtLeastOne(default.min_channels))?.0,
        dense: a.choice("dense", &names(Dense::ALL, Dense::name), default.dense)?,
        allow_inexact: a.choice("allow-inexact", &names(Inexact::ALL, Inexact::name), default.allow_inexact)?,
    };
    Ok(Box::new(Prune { options }))
}

const TARGET: &str = "macs, params or bytes and how much less of them, such as macs=-50%";
const RATIO: &str = "a number with 0 <= ratio < 1";

fn names<T: Copy>(all: &'static [T], name: fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|&t| (name(t), t)).collect()
}

struct Ratio(f64);

impl std::str::FromStr for Ratio {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().ok().filter(|r| (0.0..1.0).contains(r)).map(Self).ok_or(())
    }
}

struct Layer(String, f64);

impl std::str::FromStr for Layer {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        // Names may contain '=', ratios may not.
        let (glob, ratio) = text.rsplit_once('=').ok_or(())?;
        Ok(Self(glob.to_owned(), ratio.parse::<Ratio>()?.0))
    }
}

struct AtLeastOne(usize);

impl std::str::FromStr for AtLeastOne {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().ok().filter(|&n| n >= 1).map(Self).ok_or(())
    }
}
