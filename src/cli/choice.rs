//! Which filters go, and by which criterion: the options that `prune` and `sweep` share.

use super::failure::Failure;
use super::near::did_you_mean;
use super::source::Loaded;
use crate::analysis::Inexact;
use crate::importance::{self, Criterion, Reading, Representation, Similarity};
use crate::passes::prune::{Dense, PruneOptions};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use globset::Glob;

/// What makes a filter dispensable, and what stays in any case; not how many go.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Choice of filters")]
pub struct Choice {
    /// Leave the layers whose name matches a glob as they are, and all that is coupled with them
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// What makes a filter dispensable; by default reconstruction for a budget or where there is calibration data (if
    /// the model can be run here), else communality; degree is the published criterion
    #[arg(long, value_parser = names(Criterion::ALL, Criterion::name))]
    by: Option<Criterion>,
    /// What stands for a filter when two are compared
    #[arg(long, default_value_t, value_parser = names(Representation::ALL, Representation::name))]
    representation: Representation,
    /// How their similarity is read from the cosine
    #[arg(long, default_value_t, value_parser = names(Similarity::ALL, Similarity::name))]
    similarity: Similarity,
    /// Which definition to use where the published one differs from a sound one
    #[arg(long, default_value_t, value_parser = names(Reading::ALL, Reading::name))]
    reading: Reading,
    /// Update the graph after every removal
    #[arg(long)]
    one_at_a_time: bool,
    /// The control: keep the most central filters instead of removing them
    #[arg(long, value_name = "central", value_parser = ["central"])]
    keep: Option<String>,
    /// Keep the number of channels at multiples of N
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    multiple_of: usize,
    /// Keep at least N channels of every layer
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    min_channels: usize,
    /// Cut groups that consist of dense layers only; auto: where they are 5 % or more of the MACs that could be cut
    #[arg(long, value_name = "WHEN", default_value = "auto", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_parser = dense())]
    dense: Dense,
    /// Also remove channels that norms and other means over channels read: their statistics become those of the
    /// channels that stay, which is reported
    #[arg(long, value_name = "WHAT", default_value = "none", value_parser = inexact())]
    allow_inexact: Inexact,
    /// Seed of --by random, and of the inputs that verification runs on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl Choice {
    /// The options of the pass. The criterion that is taken where none is asked for hangs on whether there is calibration
    /// `data`, and a `budget`.
    pub fn options(&self, data: bool, budget: bool) -> PruneOptions {
        PruneOptions {
            exclude: self.exclude.clone(),
            importance: importance::Options {
                criterion: self.by.unwrap_or(match data || budget {
                    true => Criterion::Reconstruction,
                    false => Criterion::Communality,
                }),
                representation: self.representation,
                similarity: self.similarity,
                reading: self.reading,
                keep_central: self.keep.is_some(),
                one_at_a_time: self.one_at_a_time,
                seed: self.seed,
            },
            // Who asks for a criterion gets it or is told why not.
            otherwise: self.by.is_none().then_some(Criterion::Communality),
            multiple_of: self.multiple_of,
            min_channels: self.min_channels,
            dense: self.dense,
            allow_inexact: self.allow_inexact,
            ..PruneOptions::default()
        }
    }
}

/// Every glob has to match a layer: one that matches nothing is a mistake that would go unnoticed.
pub fn check_globs(options: &PruneOptions, loaded: &Loaded) -> Result<(), Failure> {
    let globs =
        options.layers.iter().map(|(g, _)| ("--layer", g)).chain(options.exclude.iter().map(|g| ("--exclude", g)));
    let model = &loaded.model;
    let mut layers: Option<Vec<String>> = None;
    for (option, text) in globs {
        let glob = Glob::new(text).map_err(|e| Failure::usage(format!("{option} '{text}' is not a glob: {e}")))?;
        let glob = glob.compile_matcher();
        let layers = layers.get_or_insert_with(|| {
            let makes =
                |op: &str| op.contains("Conv") || matches!(op, "Gemm" | "MatMul" | "Einsum" | "LSTM" | "GRU" | "RNN");
            model.walk().into_iter().filter(|&n| makes(model.node(n).op_type())).map(|n| model.label(n)).collect()
        });
        if !layers.iter().any(|l| glob.is_match(l)) {
            let near = did_you_mean(text, layers);
            return Err(Failure::usage(format!(
                "{option} '{text}' matches no layer{near}; `secateur inspect` lists their names"
            )));
        }
    }
    Ok(())
}

/// A share of filters.
pub fn ratio(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|_| "a number is expected, such as 0.5".to_owned())?;
    match (0.0..1.0).contains(&number) {
        true => Ok(number),
        false => Err("a ratio is the share of filters that goes: 0 <= R < 1".to_owned()),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "a whole number of at least 1 is expected".to_owned())
}

fn dense() -> impl TypedValueParser<Value = Dense> {
    PossibleValuesParser::new(Dense::ALL.iter().map(|d| d.name()))
        .map(|text| *Dense::ALL.iter().find(|d| d.name() == text).expect("one of the names"))
}

fn inexact() -> impl TypedValueParser<Value = Inexact> {
    PossibleValuesParser::new(Inexact::ALL.iter().map(|i| i.name()))
        .map(|text| *Inexact::ALL.iter().find(|i| i.name() == text).expect("one of the names"))
}

/// A choice by its name; the help lists them all.
fn names<T>(all: &'static [T], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + std::str::FromStr<Err = importance::ParseNameError> + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.iter().map(|&c| name(c))).try_map(|text| text.parse::<T>())
}
