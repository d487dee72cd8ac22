//! Input bytes as choices.

/// A source of choices that ends with its bytes.
#[derive(Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// Choices made by `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A range of slots, the first and the last one, of `slots` slots; mostly short.
    pub fn slots(&mut self, slots: usize) -> Option<(usize, usize)> {
        let first = usize::from(self.byte()?) % slots;
        let len = usize::from(self.byte()?);
        let len = if len < 192 { len % 8 } else { len % slots };
        Some((first, (first + len).min(slots - 1)))
    }
}
