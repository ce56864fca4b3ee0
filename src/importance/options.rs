//! What may be asked of [`rank`](super::rank), and the kebab-case names by which a command line asks for it.
//!
//! Guarantees: `Display` and `FromStr` of each choice are inverse to each other, and the default of every choice is
//! the published one. Refuses: any other spelling, with an error that lists the right ones.

use std::fmt;
use std::str::FromStr;

/// A name that is none of the choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} '{name}': one of {choices} is expected")]
pub struct ParseNameError {
    what: &'static str,
    name: String,
    choices: String,
}

/// Declares an enum of choices with its names, so that a choice is one line and its name cannot be forgotten.
macro_rules! choices {
    ($(#[$meta:meta])* $name:ident ($what:literal) { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every choice, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The kebab-case name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(name: &str) -> Result<Self, ParseNameError> {
                Self::ALL.iter().copied().find(|c| c.name() == name).ok_or_else(|| ParseNameError {
                    what: $what,
                    name: name.to_owned(),
                    choices: Self::ALL.iter().map(|c| c.name()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

choices! {
    /// What makes a filter dispensable.
    Criterion("criterion") {
        /// The sum of a filter's similarities to all others: the published criterion.
        #[default]
        Degree = "degree",
        /// The fraction of shortest paths between other filters that lead through it.
        Betweenness = "betweenness",
        /// The reciprocal of its mean distance to the others.
        Closeness = "closeness",
        /// Its entry in the dominant eigenvector of the graph of absolute similarities.
        Eigenvector = "eigenvector",
        /// A small sum of absolute weights.
        L1 = "l1",
        /// A small Euclidean norm.
        L2 = "l2",
        /// A small sum of Euclidean distances to the other filters.
        Fpgm = "fpgm",
        /// What a filter's readers lose with it when the other filters take over what they can, by how much the filters
        /// themselves explain of each other.
        Communality = "communality",
        /// The same by what the filters compute on calibration data, and weighed by what the outputs make of it.
        Reconstruction = "reconstruction",
        /// A seeded draw: the control every criterion has to beat.
        Random = "random",
    }
}

choices! {
    /// What stands for a filter when two are compared.
    Representation("representation") {
        /// Spatial, but the whole filter where a kernel has one tap only.
        #[default]
        Auto = "auto",
        /// The direction over the kernel's taps of the filter's best rank-1 approximation, as published.
        Spatial = "spatial",
        /// All weights of the filter.
        Filter = "filter",
        /// What the channel's readers see of it on data: two are similar as far as they are correlated. A caller gives
        /// these as the filters.
        Response = "response",
    }
}

choices! {
    /// How two filters' similarity is read from their cosine. Betweenness, closeness and eigenvector always use the
    /// absolute value, for negative lengths and weights make them ill-defined.
    Similarity("similarity") {
        /// The cosine itself, as published.
        #[default]
        Signed = "signed",
        /// Its absolute value, which does not hang on the order of the input channels.
        Absolute = "absolute",
    }
}

choices! {
    /// Which definition to use where the published one differs from a sound one; for degree there is no difference.
    Reading("reading") {
        /// Similar filters are near: the length of an edge is `1 / |cos|`.
        #[default]
        Sound = "sound",
        /// Betweenness with the similarity itself, `|cos|`, as length (the authors' script passes it so; absolute
        /// value here, for it passes negative lengths too). Closeness with the usual distance `1 - |cos|`.
        Published = "published",
    }
}

/// How to rank. The default is the published choice: degree of signed similarities between spatial representatives,
/// in one shot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// What makes a filter dispensable.
    pub criterion: Criterion,
    /// What stands for a filter.
    pub representation: Representation,
    /// Signed or absolute cosines, for degree.
    pub similarity: Similarity,
    /// Sound or published definitions of the path lengths.
    pub reading: Reading,
    /// The opposite control: negates every score, so that the most central filters are kept.
    pub keep_central: bool,
    /// Update the graph after every removal, so that one filter of a cluster stays. One-shot ranking removes whole
    /// clusters, whose members are all central.
    pub one_at_a_time: bool,
    /// The seed of [`Criterion::Random`]. A caller with several groups should give each its own.
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_read_back() {
        for &c in Criterion::ALL {
            assert_eq!(c.to_string().parse(), Ok(c));
        }
        for &r in Representation::ALL {
            assert_eq!(r.to_string().parse(), Ok(r));
        }
        for &s in Similarity::ALL {
            assert_eq!(s.to_string().parse(), Ok(s));
        }
        for &r in Reading::ALL {
            assert_eq!(r.to_string().parse(), Ok(r));
        }
        assert!(format!("{:<12}|", Criterion::L1).starts_with("l1          |"));
    }

    #[test]
    fn a_wrong_name_is_told_the_right_ones() {
        let error = "Degree".parse::<Criterion>().unwrap_err().to_string();
        assert!(error.contains("'Degree'") && error.contains("degree, betweenness"), "{error}");
    }
}
