//! Parts of a program that a test tries.

/// Brings in files that belong to an example, by path and name.
macro_rules! parts {
    ($($path:literal $name:ident,)*) => {
        $(
            #[path = $path]
            #[allow(dead_code, reason = "the example uses the rest")]
            mod $name;
        )*
    };
}
