//! Typed indices into the arenas of a [`Model`](super::Model).

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $sigil:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(super) u32);

        impl $name {
            /// Position in the arena. Indices are 32 bits: a model of four billion nodes does not fit in a protobuf.
            pub fn index(self) -> usize {
                self.0 as usize
            }

            pub(super) fn at(index: usize) -> Self {
                Self(u32::try_from(index).expect("fewer than 2^32 items in a model"))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($sigil, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A node of any graph of the model.
    NodeId, "n");
id!(
    /// A value (tensor name) of any graph of the model.
    ValueId, "v");
id!(
    /// The main graph (always the first) or a nested one.
    GraphId, "g");
