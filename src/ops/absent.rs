//! Operators that are known and have no row. They pin what they touch, as any unknown operator does; here it is said why.

/// Why an operator has no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Absent {
    /// How large the result is depends on data.
    Extents,
    /// Sequences, maps and optional values are not tensors.
    Container,
    /// A body decides what passes.
    Body,
    /// Text or compressed images.
    Text,
    /// Training.
    Loss,
    /// Heads, blocks or experts are packed into one axis, or a state is carried.
    Packed,
    /// The layout or type of operands is not stated, or parameters that shape the result are inputs.
    Layout,
    /// Several steps in one, among them one over all channels.
    Fused,
}

impl Absent {
    pub const ALL: [Self; 8] =
        [Self::Body, Self::Container, Self::Extents, Self::Fused, Self::Layout, Self::Loss, Self::Packed, Self::Text];

    pub fn text(self) -> &'static str {
        match self {
            Self::Extents => "the extents of its result depend on data",
            Self::Container => "it deals in sequences, maps or optional values",
            Self::Body => "a body decides what passes",
            Self::Text => "it deals in text or images in a file format",
            Self::Loss => "it is a loss of training",
            Self::Packed => "heads, blocks or experts are packed into one axis, or a state is carried",
            Self::Layout => "the layout or the type of its operands is not stated, or its parameters are inputs",
            Self::Fused => "several steps in one, among them one over all channels",
        }
    }
}

/// Domain, name and reason, in order.
pub static ABSENT: &[(&str, &str, Absent)] = &[
    ("", "ConcatFromSequence", Absent::Container),
    ("", "If", Absent::Body),
    ("", "ImageDecoder", Absent::Text),
    ("", "LinearAttention", Absent::Packed),
    ("", "Loop", Absent::Body),
    ("", "NegativeLogLikelihoodLoss", Absent::Loss),
    ("", "NonMaxSuppression", Absent::Extents),
    ("", "NonZero", Absent::Extents),
    ("", "Optional", Absent::Container),
    ("", "OptionalGetElement", Absent::Container),
    ("", "OptionalHasElement", Absent::Container),
    ("", "RegexFullMatch", Absent::Text),
    ("", "Scan", Absent::Body),
    ("", "SequenceAt", Absent::Container),
    ("", "SequenceConstruct", Absent::Container),
    ("", "SequenceEmpty", Absent::Container),
    ("", "SequenceErase", Absent::Container),
    ("", "SequenceInsert", Absent::Container),
    ("", "SequenceLength", Absent::Container),
    ("", "SequenceMap", Absent::Container),
    ("", "SoftmaxCrossEntropyLoss", Absent::Loss),
    ("", "SplitToSequence", Absent::Container),
    ("", "StringConcat", Absent::Text),
    ("", "StringNormalizer", Absent::Text),
    ("", "StringSplit", Absent::Text),
    ("", "TfIdfVectorizer", Absent::Text),
    ("", "Unique", Absent::Extents),
    ("com.microsoft", "Attention", Absent::Packed),
    ("com.microsoft", "BiasDropout", Absent::Fused),
    ("com.microsoft", "BiasSoftmax", Absent::Fused),
    ("com.microsoft", "BiasSplitGelu", Absent::Fused),
    ("com.microsoft", "ConvTransposeWithDynamicPads", Absent::Layout),
    ("com.microsoft", "DecoderMaskedMultiHeadAttention", Absent::Packed),
    ("com.microsoft", "EmbedLayerNormalization", Absent::Fused),
    ("com.microsoft", "FusedMatMulActivation", Absent::Fused),
    ("com.microsoft", "GemmFastGelu", Absent::Fused),
    ("com.microsoft", "GroupNorm", Absent::Layout),
    ("com.microsoft", "GroupQueryAttention", Absent::Packed),
    ("com.microsoft", "MatMulBnb4", Absent::Packed),
    ("com.microsoft", "MatMulNBits", Absent::Packed),
    ("com.microsoft", "MoE", Absent::Packed),
    ("com.microsoft", "MultiHeadAttention", Absent::Packed),
    ("com.microsoft", "NhwcConv", Absent::Layout),
    ("com.microsoft", "NhwcFusedConv", Absent::Layout),
    ("com.microsoft", "QAttention", Absent::Packed),
    ("com.microsoft", "ReduceSumInteger", Absent::Layout),
    ("com.microsoft", "RotaryEmbedding", Absent::Packed),
    ("com.microsoft", "SkipGroupNorm", Absent::Layout),
    ("com.microsoft", "Unique", Absent::Extents),
];

/// Why an operator has no row, where it is one of these.
pub fn why(domain: &str, name: &str) -> Option<&'static str> {
    ABSENT.iter().find(|(d, n, _)| *d == domain && *n == name).map(|(_, _, why)| why.text())
}
