//! Spans at the borders of the layers that do I/O, for whoever looks on through `tracing`. The map, the status tree and the
//! allocator have none: their calls take less time than a span does.

/// Enters a span that lasts to the end of the block: its level, its name, and its fields as `tracing` writes them.
/// Nothing without the feature `tracing`.
macro_rules! span {
    ($level:ident, $($rest:tt)*) => {
        #[cfg(feature = "tracing")]
        let _inside = ::tracing::span!(::tracing::Level::$level, $($rest)*).entered();
    };
}

pub(crate) use span;
