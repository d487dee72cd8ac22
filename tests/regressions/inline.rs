//! Files that leave the mapping store under somebody's hands.

use extent_map::file::{File, VolumeOptions};
use extent_map::probe::{Mutation, Probe};

use crate::bug::{Bug, Outcome, Proof, check, check_synced, expect, regressions};
use crate::scene::{content, steered_volume, volume};
use crate::steered::{Others, SteeredStore, StoreCall};

regressions! {
    the_clusters_of_an_inline_file_are_not_looked_up: Bug {
        number: 9,
        fixed: "2022-11",
        kernel: "With inline data and clusters of several blocks, a query walked an extent tree that did not exist, and \
                 cached garbage and pending clusters.",
        invariants: &[1, 5],
        proof: Proof::Protected(&[&[Mutation::ReadInlineAsExtents]], inline_file_with_clusters),
    },
    a_file_that_left_the_store_is_truncated_as_blocks: Bug {
        number: 10,
        fixed: "2021-08",
        kernel: "The truncation of a file that had just been converted from inline data left its delayed blocks and \
                 their reservation.",
        invariants: &[1, 12],
        proof: Proof::Protected(&[&[Mutation::ResizeConvertedInline]], truncation_beside_a_fault),
    },
    an_inline_write_notices_that_a_fault_took_the_file_out: Bug {
        number: 36,
        fixed: "2022, 2023-05",
        kernel: "A page fault converted the file in the middle of a buffered inline write, which crashed; and bmap \
                 beside a write saw inline data as a mapping.",
        invariants: &[3],
        proof: Proof::Protected(&[&[Mutation::RewriteInlineBlindly]], inline_write_beside_a_fault),
    },
}

fn inline_file_with_clusters(probe: Probe) -> Outcome {
    let options = VolumeOptions::new().cluster_blocks(4).inline_limit(600);
    let (volume, file) = volume(options, probe)?;
    file.write_at(0, &[1; 100])?;
    file.write_at(100, &[2; 8000])?;
    check(&volume)?;
    check_synced(&volume)
}

/// Lets another thread fault the file in as soon as this one has read its inline bytes.
fn fault_after_the_look(file: &File, store: &SteeredStore) -> Others {
    let (others, faulting) = (Others::new(), file.clone());
    let fault = others.action(move || faulting.page_fault(0));
    store.at_next(StoreCall::InlineRead, fault);
    others
}

fn truncation_beside_a_fault(probe: Probe) -> Outcome {
    let options = VolumeOptions::new().inline_limit(600);
    let (volume, file, store) = steered_volume(options, probe)?;
    file.write_at(0, &[1; 100])?;
    let others = fault_after_the_look(&file, &store);
    file.set_len(0)?;
    others.join()?;
    check(&volume)?;
    check_synced(&volume)
}

fn inline_write_beside_a_fault(probe: Probe) -> Outcome {
    let options = VolumeOptions::new().inline_limit(600);
    let (volume, file, store) = steered_volume(options, probe)?;
    file.write_at(0, b"0123456789")?;
    let others = fault_after_the_look(&file, &store);
    file.write_at(2, b"ab")?;
    others.join()?;
    check_synced(&volume)?;
    expect(
        10,
        content(&file, 100)? == b"01ab456789",
        "the write is lost",
    )
}
