//! Page faults, which hold no inode lock, beside calls, of which some hold no folio lock.

use extent_map::Error;
use extent_map::file::{AllocateMode, VolumeOptions};
use extent_map::probe::Mutation;
use extent_map::testing;

use crate::model::{Case, Model, checked, ensure};
use crate::world::{PAGE, World};

/// The race this crate is built around: a page fault holds no inode lock, fallocate no folio lock.
fn page_fault_beside_allocate(case: &Case) {
    let world = World::with_hole(case, 1);
    world.race([
        ("page fault", &|| world.store(0, 1)),
        ("fallocate", &|| {
            world.allocate(AllocateMode::Allocate, 0, 1)
        }),
    ]);
    world.expect_pages(&[[1]]);
    world.check();
}

const PAGE_FAULT_BESIDE_ALLOCATE: Model = Model {
    name: "page fault, fallocate",
    asserts: &[4, 22],
    broken: &[&[Mutation::SkipSecondLook]],
    body: page_fault_beside_allocate,
};

#[test]
fn a_page_fault_beside_allocate_leaks_nothing() {
    PAGE_FAULT_BESIDE_ALLOCATE.verify();
}

#[test]
fn the_schedule_in_which_the_second_look_is_missed_can_be_read() {
    let found = PAGE_FAULT_BESIDE_ALLOCATE.explore(&[Mutation::SkipSecondLook]);
    let failure = found.expect_err("the model must find the bug");
    println!(
        "without the second look, schedule {}: {}",
        failure.schedule, failure.message
    );
    println!("{}", failure.story);
    assert!(failure.message.starts_with("I4"), "{}", failure.message);
    let step = |text: &str| failure.story.lines().position(|line| line.contains(text));
    let looked = step("looks at file block 0, no data lock: hole");
    let allocated = step("file blocks 0..1 is allocated, unwritten");
    let delayed = step("file blocks 0..1 is delayed");
    assert!(
        looked.is_some() && looked < allocated && allocated < delayed,
        "{}",
        failure.story
    );
}

#[test]
fn a_page_fault_beside_punch_ends_as_one_after_the_other() {
    Model {
        name: "page fault, punch",
        asserts: &[10, 22],
        broken: &[&[Mutation::PunchBesideFaults]],
        body: |case| {
            let world = World::with_hole(case, 2);
            world.write(0, 7);
            world.race([
                ("page fault", &|| world.store(0, 1)),
                ("punch", &|| world.allocate(AllocateMode::PunchHole, 0, 1)),
            ]);
            world.expect_pages(&[[0], [1]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_page_fault_beside_zero_range_brings_nothing_back() {
    Model {
        name: "page fault, zero range",
        asserts: &[10, 22],
        broken: &[&[Mutation::PunchBesideFaults]],
        body: |case| {
            let world = World::with_hole(case, 2);
            world.write(0, 7);
            ensure(19, world.volume.drop_caches() == Ok(()), || {
                "caches stay".into()
            });
            world.race([
                ("page fault", &|| {
                    assert_eq!(world.file.page_fault(0), Ok(()))
                }),
                ("zero range", &|| {
                    world.allocate(AllocateMode::ZeroRange, 0, 2)
                }),
            ]);
            world.expect_pages(&[[0, 0]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn stores_beside_an_unaligned_punch_are_all_before_it_from_the_first_that_is_lost() {
    Model {
        name: "stores into edge and inner page, punch",
        asserts: &[22],
        broken: &[&[Mutation::PunchMappedPages]],
        body: |case| {
            let world = World::with_hole(case, 3);
            for page in 0..3 {
                world.store(page, 7);
            }
            world.race([
                ("stores", &|| {
                    for page in 0..3 {
                        assert_eq!(world.file.store_mapped(page * PAGE + 100, &[1]), Ok(1));
                    }
                }),
                ("punch", &|| {
                    let (start, len) = (100, 2 * PAGE + 100);
                    let punched = world.file.allocate(AllocateMode::PunchHole, start, len);
                    assert_eq!(punched, Ok(()));
                }),
            ]);
            let content = world.content();
            let stays = [0, 1, 2].map(|page| content[page * PAGE as usize + 100] == 1);
            ensure(22, stays.is_sorted(), || {
                format!("of stores one after the other these stay: {stays:?}")
            });
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_page_fault_beside_collapse_hits_the_page_before_or_after() {
    Model {
        name: "page fault, collapse",
        asserts: &[22],
        broken: &[&[Mutation::ShiftBesideFaults]],
        body: |case| {
            let world = World::with_hole(case, 3);
            world.write(1, 7);
            world.race([
                ("page fault", &|| world.store(1, 1)),
                ("collapse", &|| {
                    world.allocate(AllocateMode::CollapseRange, 0, 1)
                }),
            ]);
            world.expect_pages(&[[1, 0], [7, 1]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_page_fault_beside_truncation_never_backs_what_lies_behind_the_end() {
    Model {
        name: "page fault, truncate",
        asserts: &[10, 22],
        // Either of the two would do.
        broken: &[&[Mutation::ShrinkBesideFaults, Mutation::ShrinkSizeLast]],
        body: |case| {
            let world = World::with_hole(case, 2);
            world.race([
                ("page fault", &|| {
                    let outcome = world.file.page_fault(PAGE);
                    let allowed = [Ok(()), Err(Error::BeyondEnd)].contains(&outcome);
                    ensure(22, allowed, || format!("page fault: {outcome:?}"));
                }),
                ("truncate", &|| world.set_pages(1)),
            ]);
            ensure(12, world.file.blocks() == 0, || {
                "blocks behind the end".into()
            });
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_store_beside_truncation_leaves_nothing_behind_the_end() {
    Model {
        name: "store, truncate inside the page",
        asserts: &[10, 22],
        broken: &[&[Mutation::ShrinkSizeLast]],
        body: |case| {
            let world = World::with_hole(case, 1);
            world.store(0, 1);
            world.race([
                ("store", &|| {
                    let stored = world.file.store_mapped(PAGE / 2, &[2; 8]);
                    let allowed = [Ok(8), Ok(0), Err(Error::BeyondEnd)].contains(&stored);
                    ensure(22, allowed, || format!("store: {stored:?}"));
                }),
                ("truncate", &|| {
                    assert_eq!(world.file.set_len(PAGE / 4), Ok(()))
                }),
            ]);
            // Growing would zero what was left behind the end.
            checked(testing::check(&world.volume));
            world.set_pages(1);
            let content = world.content();
            let (kept, gone) = content.split_at((PAGE / 4) as usize);
            ensure(22, kept.iter().all(|byte| *byte == 1), || {
                "bytes are lost".into()
            });
            ensure(10, gone.iter().all(|byte| *byte == 0), || {
                "old bytes came back".into()
            });
            world.check();
        },
    }
    .verify();
}

#[test]
fn an_inline_write_beside_a_page_fault_keeps_both_bytes() {
    Model {
        name: "inline write, page fault",
        asserts: &[22],
        broken: &[&[Mutation::RewriteInlineBlindly]],
        body: |case| {
            let options = VolumeOptions::new().inline_limit(64);
            let world = World::shaped(case, 4, 1, usize::MAX, options);
            assert_eq!(world.file.write_at(0, &[1; 8]), Ok(8));
            world.race([
                ("inline write", &|| {
                    assert_eq!(world.file.write_at(8, &[2; 8]), Ok(8))
                }),
                ("page fault", &|| {
                    assert_eq!(world.file.store_mapped(0, &[3; 4]), Ok(4))
                }),
            ]);
            let expected = [vec![3; 4], vec![1; 4], vec![2; 8]].concat();
            ensure(22, world.content() == expected, || "a byte is lost".into());
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_truncation_inside_the_mapping_store_beside_a_page_fault_leaves_no_block() {
    Model {
        name: "inline truncate, page fault",
        asserts: &[12],
        broken: &[&[Mutation::ChangeInlineBesideFaults]],
        body: |case| {
            let options = VolumeOptions::new().inline_limit(64);
            let world = World::shaped(case, 4, 1, usize::MAX, options);
            assert_eq!(world.file.write_at(0, &[1; 8]), Ok(8));
            world.race([
                ("truncate", &|| assert_eq!(world.file.set_len(0), Ok(()))),
                ("page fault", &|| {
                    let faulted = world.file.page_fault(0);
                    assert!(matches!(faulted, Ok(()) | Err(Error::BeyondEnd)));
                }),
            ]);
            ensure(12, world.file.blocks() == 0, || {
                "blocks behind the end".into()
            });
            world.check();
        },
    }
    .verify();
}
