//! Any operations of a device, against a vector of bytes.

use std::io::IoSlice;

use extent_map::Error;
use extent_map::device::BlockDevice;
use proptest::prelude::*;

use crate::io::read;

/// One operation.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write {
        offset: u64,
        len: usize,
        byte: u8,
    },
    Vectored {
        offset: u64,
        lens: Vec<usize>,
        byte: u8,
    },
    Read {
        offset: u64,
        len: usize,
    },
    Zero {
        offset: u64,
        len: usize,
    },
    Discard {
        offset: u64,
        len: usize,
    },
    Flush,
}

/// Which steps a device can be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Bytes of the device.
    pub(crate) size: usize,
    /// What offsets and lengths are multiples of.
    pub(crate) unit: usize,
}

/// Any step, also one outside the device.
pub(crate) fn step(Shape { size, unit }: Shape) -> impl Strategy<Value = Step> {
    let whole = move |len: usize| len / unit * unit;
    // Around the chunk borders, or anywhere, also outside.
    let offset = prop_oneof![
        (0..4_u64, 0..40_u64).prop_map(|(chunk, near)| ((chunk << 16) + near).saturating_sub(20)),
        0..size as u64 + 10,
        Just(u64::MAX - 5),
    ];
    let offset = offset.prop_map(move |offset| offset / unit as u64 * unit as u64);
    let len = prop_oneof![0..100_usize, 0..size + 10 * unit].prop_map(whole);
    let lens = prop::collection::vec((0..300 * unit.min(8)).prop_map(whole), 0..6);
    prop_oneof![
        (offset.clone(), len.clone(), any::<u8>()).prop_map(|(offset, len, byte)| Step::Write {
            offset,
            len,
            byte
        }),
        (offset.clone(), lens, any::<u8>()).prop_map(|(offset, lens, byte)| Step::Vectored {
            offset,
            lens,
            byte
        }),
        (offset.clone(), len.clone()).prop_map(|(offset, len)| Step::Read { offset, len }),
        (offset.clone(), len.clone()).prop_map(|(offset, len)| Step::Zero { offset, len }),
        (offset, len).prop_map(|(offset, len)| Step::Discard { offset, len }),
        Just(Step::Flush),
    ]
}

/// Bytes that differ from their neighbours, so that a shifted copy shows.
pub(crate) fn pattern(byte: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| byte.wrapping_add(i as u8) ^ (i >> 8) as u8)
        .collect()
}

/// Carries out the steps on a device of zeros and compares with a vector after each.
pub(crate) fn compare_with_vector(device: &dyn BlockDevice, shape: Shape, steps: &[Step]) {
    let size = shape.size;
    assert_eq!(device.size(), size as u64);
    let mut bytes = vec![0; size];
    for step in steps {
        let (outcome, offset, len) = match step {
            Step::Write { offset, len, byte } => (
                device.write_at(*offset, &pattern(*byte, *len)),
                *offset,
                *len,
            ),
            Step::Vectored { offset, lens, byte } => {
                let len = lens.iter().sum();
                let data = pattern(*byte, len);
                let mut rest = &data[..];
                let parts = lens.iter().map(|len| {
                    let (part, behind) = rest.split_at(*len);
                    rest = behind;
                    IoSlice::new(part)
                });
                let parts: Vec<_> = parts.collect();
                (device.write_vectored_at(*offset, &parts), *offset, len)
            }
            Step::Read { offset, len } => {
                (device.read_at(*offset, &mut vec![0; *len]), *offset, *len)
            }
            Step::Zero { offset, len } => {
                (device.write_zeroes(*offset, *len as u64), *offset, *len)
            }
            Step::Discard { offset, len } => (device.discard(*offset, *len as u64), *offset, *len),
            Step::Flush => (device.flush(), 0, 0),
        };
        let inside = usize::try_from(offset).ok().and_then(|start| {
            let end = start.checked_add(len)?;
            bytes.get_mut(start..end)
        });
        match (outcome, inside) {
            (Ok(()), Some(target)) => match step {
                Step::Write { byte, .. } | Step::Vectored { byte, .. } => {
                    target.copy_from_slice(&pattern(*byte, len));
                }
                Step::Zero { .. } => target.fill(0),
                Step::Discard { .. } => {
                    let now = read(device, offset, len);
                    let allowed = now
                        .iter()
                        .zip(&*target)
                        .all(|(now, old)| *now == 0 || now == old);
                    assert!(allowed, "a discard leaves the old bytes or zeros");
                    target.copy_from_slice(&now);
                }
                Step::Read { .. } | Step::Flush => {}
            },
            (Err(Error::InvalidInput(_)), None) => {}
            (outcome, inside) => panic!("{step:?}: {outcome:?}, inside: {}", inside.is_some()),
        }
        assert!(
            read(device, 0, size) == bytes,
            "the bytes differ after {step:?}"
        );
    }
}
