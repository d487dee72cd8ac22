//! Pages that leave memory, and accesses past it, beside what relies on them.

use extent_map::file::VolumeOptions;
use extent_map::probe::Mutation;

use crate::model::{Case, Model, ensure};
use crate::world::{PAGE, World};

/// A volume with memory for one page, whose file has two pages filled with 1 and 2 on the device.
fn crowded(case: &Case) -> World<'_> {
    let options = VolumeOptions::new().cached_pages(1);
    let world = World::shaped(case, 16, 1, usize::MAX, options);
    world.write(0, 1);
    world.write(1, 2);
    world.sync();
    world
}

#[test]
fn a_write_of_a_part_of_a_page_that_is_to_leave_keeps_the_rest() {
    Model {
        name: "write of a part, eviction",
        asserts: &[10, 22],
        broken: &[&[Mutation::LetGoOfEdges]],
        body: |case| {
            let world = crowded(case);
            let part = || {
                let written = world.file.write_at(100, &[3; 8]);
                ensure(21, written == Ok(8), || format!("write: {written:?}"));
            };
            world.race([
                ("write", &part),
                ("read", &|| {
                    world.first_byte_of(1);
                }),
            ]);
            let mut expected = [1; PAGE as usize];
            expected[100..108].fill(3);
            let content = world.content();
            ensure(10, content[..PAGE as usize] == expected, || {
                "the rest of the page is lost".into()
            });
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_store_through_a_mapping_into_a_page_that_is_to_leave_is_never_lost() {
    Model {
        name: "store, eviction",
        asserts: &[10, 22],
        broken: &[&[Mutation::EvictDirtyPages]],
        body: |case| {
            let world = crowded(case);
            world.race([
                ("store", &|| world.store(0, 3)),
                ("read", &|| {
                    world.first_byte_of(1);
                }),
            ]);
            world.expect_pages(&[[3, 2]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_truncation_beside_eviction_leaves_what_it_should() {
    Model {
        name: "truncate, eviction, write",
        asserts: &[10, 12, 22],
        broken: &[&[Mutation::EvictDirtyPages]],
        body: |case| {
            let world = crowded(case);
            world.write(2, 4);
            world.sync();
            world.write(0, 3);
            // A clean page: beside dirty ones only, nobody looks for one that could leave.
            world.first_byte_of(2);
            world.race([
                ("truncate", &|| world.set_pages(1)),
                ("read", &|| {
                    let mut byte = [0xee];
                    let len = world.file.read_at(PAGE, &mut byte);
                    ensure(
                        22,
                        matches!((&len, byte), (Ok(0), _) | (Ok(1), [2])),
                        || format!("read {len:?}: {byte:?}"),
                    );
                }),
            ]);
            world.expect_pages(&[[3]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn what_is_read_for_several_pages_is_true_when_it_is_there() {
    Model {
        name: "read of two pages, write, sync, eviction",
        asserts: &[10, 22],
        broken: &[&[Mutation::ReadBeforeLocking]],
        body: |case| {
            let world = crowded(case);
            world.race([
                ("read", &|| world.expect_pages(&[[1, 2], [1, 3]])),
                ("write and sync", &|| {
                    world.write(1, 3);
                    world.sync();
                }),
            ]);
            world.expect_pages(&[[1, 3]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_direct_write_leaves_nothing_old_in_memory() {
    Model {
        name: "direct write, read",
        asserts: &[10, 22],
        broken: &[
            &[Mutation::DirectBesideFaults],
            &[Mutation::KeepPagesUnderDirectWrite],
        ],
        body: |case| {
            let world = crowded(case);
            world.race([
                ("direct write", &|| write_direct(&world, 0, 3)),
                ("read", &|| {
                    let byte = world.first_byte_of(0);
                    ensure(22, matches!(byte, 1 | 3), || format!("reads {byte}"));
                }),
            ]);
            world.expect_pages(&[[3, 2]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_direct_read_sees_what_was_stored_before_it() {
    Model {
        name: "direct write, direct read, store",
        asserts: &[10, 22],
        broken: &[&[Mutation::DirectBesideFaults]],
        body: |case| {
            let world = crowded(case);
            world.race([
                ("direct write", &|| write_direct(&world, 0, 3)),
                ("store", &|| world.store(0, 4)),
            ]);
            let mut page = [0xee; PAGE as usize];
            let len = world.file.read_direct_at(0, &mut page);
            ensure(22, len == Ok(page.len()), || format!("read: {len:?}"));
            let byte = page[0];
            ensure(22, matches!(byte, 3 | 4), || format!("reads {byte}"));
            world.expect_pages(&[[byte, 2]]);
            world.check();
        },
    }
    .verify();
}

fn write_direct(world: &World<'_>, index: u64, byte: u8) {
    let page = [byte; PAGE as usize];
    let written = world.file.write_direct_at(index * PAGE, &page);
    ensure(21, written == Ok(page.len()), || {
        format!("direct write: {written:?}")
    });
}
