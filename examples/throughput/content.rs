//! What blocks hold: it can be told from the file, the block and how often that was written.

pub(crate) const BLOCK: usize = 4096;

type Words = [[u8; 8]];

/// Fills a block: zeros for generation 0, which is a hole.
pub(crate) fn fill(block: &mut [u8], file: u64, number: u64, generation: u32) {
    if generation == 0 {
        return block.fill(0);
    }
    let (words, _) = block.as_chunks_mut::<8>();
    let mut word = mark(file, number, generation);
    words[0] = u64::from(generation).to_le_bytes();
    for place in &mut words[1..] {
        *place = word.to_le_bytes();
        word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    }
}

/// Whether a block is as [`fill`] fills it.
pub(crate) fn is(block: &[u8], file: u64, number: u64, generation: u32) -> bool {
    let mut expected = [0; BLOCK];
    fill(&mut expected, file, number, generation);
    block == expected
}

/// Whether a block begins as one of that place does, of whatever generation. Cheap.
pub(crate) fn belongs(block: &[u8], file: u64, number: u64) -> bool {
    begins(block.as_chunks().0, file, number).is_some()
}

/// Whether a block begins as one of that place and generation. Cheap.
pub(crate) fn is_likely(block: &[u8], file: u64, number: u64, generation: u32) -> bool {
    begins(block.as_chunks().0, file, number) == Some(generation)
}

/// The generation of a block that begins as one of that place does.
fn begins(words: &Words, file: u64, number: u64) -> Option<u32> {
    let [generation, second] = [words[0], words[1]].map(u64::from_le_bytes);
    let generation = u32::try_from(generation).ok()?;
    let expected = match generation {
        0 => 0,
        _ => mark(file, number, generation),
    };
    (second == expected).then_some(generation)
}

/// A number that no other place and generation has, nearly.
fn mark(file: u64, number: u64, generation: u32) -> u64 {
    let mixed = (file << 40)
        .wrapping_add(number)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = mixed.wrapping_add(u64::from(generation));
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93) | 1
}
