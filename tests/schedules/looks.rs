//! Reads, seeks and lists beside what changes pages, size and mapping.

use extent_map::Error;
use extent_map::file::{AllocateMode, ExtentKind, VolumeOptions};
use extent_map::probe::Mutation;

use crate::model::{Model, ensure};
use crate::world::{PAGE, World};

#[test]
fn a_seek_beside_writeback_passes_no_data_by() {
    Model {
        name: "seek, writeback of an unwritten block",
        asserts: &[22],
        broken: &[&[Mutation::ShowWithOneLook]],
        body: |case| {
            let world = World::with_hole(case, 1);
            world.allocate(AllocateMode::Allocate, 0, 1);
            world.write(0, 1);
            world.race([
                ("seek", &|| {
                    let data = world.file.seek_data(0);
                    ensure(22, data == Ok(0), || format!("data at {data:?}"));
                }),
                ("writeback", &|| world.sync()),
            ]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn extents_beside_writeback_show_data_as_written_where_nothing_is_delayed() {
    Model {
        name: "extents, writeback, delayed allocation off",
        asserts: &[22],
        broken: &[&[Mutation::ShowWithOneLook]],
        body: |case| {
            let options = VolumeOptions::new().delayed_allocation(false);
            let world = World::shaped(case, 16, 1, usize::MAX, options);
            world.write(0, 1);
            world.race([
                ("extents", &|| {
                    let kinds = world.file.extents().map(|extents| extents[0].kind);
                    ensure(22, kinds == Ok(ExtentKind::Written), || {
                        format!("{kinds:?}")
                    });
                }),
                ("writeback", &|| world.sync()),
            ]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_seek_for_a_hole_beside_truncation_answers_for_one_size() {
    Model {
        name: "seek, truncate",
        asserts: &[22],
        broken: &[&[Mutation::SeekSizeUnlocked]],
        body: |case| {
            let world = World::with_hole(case, 2);
            world.write(0, 1);
            world.write(1, 2);
            world.race([
                ("seek", &|| {
                    let hole = world.file.seek_hole(PAGE);
                    let allowed = [Ok(2 * PAGE), Err(Error::NotFound)];
                    ensure(22, allowed.contains(&hole), || format!("hole at {hole:?}"));
                }),
                ("truncate", &|| world.set_pages(1)),
            ]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_read_beside_a_write_that_grows_the_file_sees_the_page_at_one_instant() {
    Model {
        name: "read, growing write",
        asserts: &[22],
        broken: &[&[Mutation::ReadBeyondSeenEnd]],
        body: |case| {
            let world = World::new(case, 16, 1);
            assert_eq!(world.file.write_at(0, &[1; 100]), Ok(100));
            world.race([
                ("read", &|| {
                    let mut bytes = vec![0; PAGE as usize];
                    let len = world.file.read_at(0, &mut bytes);
                    let before = len == Ok(100) && bytes[..100] == [1; 100];
                    let after = len == Ok(bytes.len()) && bytes == [2; PAGE as usize];
                    ensure(22, before || after, || format!("a mixture: {len:?}"));
                }),
                ("write", &|| world.write(0, 2)),
            ]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_file_beside_its_writeback_never_seems_empty() {
    Model {
        name: "blocks, writeback of a delayed block",
        asserts: &[22],
        broken: &[&[Mutation::SumBesideChanges]],
        body: |case| {
            let world = World::with_hole(case, 1);
            world.write(0, 1);
            world.race([
                ("blocks", &|| {
                    let blocks = world.file.blocks();
                    ensure(22, blocks == PAGE / 512, || format!("{blocks} blocks"));
                }),
                ("writeback", &|| world.sync()),
            ]);
            world.check();
        },
    }
    .verify();
}
