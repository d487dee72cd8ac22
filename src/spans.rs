//! Spans at the borders of the layers, for whoever looks on through `tracing`.

/// Enters a span that lasts to the end of the block: its level, its name, and its fields as `tracing` writes them.
/// Nothing without the feature `tracing`.
macro_rules! span {
    ($level:ident, $($rest:tt)*) => {
        #[cfg(feature = "tracing")]
        let _inside = ::tracing::span!(::tracing::Level::$level, $($rest)*).entered();
    };
}

pub(crate) use span;
