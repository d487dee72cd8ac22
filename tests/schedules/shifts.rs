//! Collapse and insert, which move blocks, beside those who hold no lock that keeps blocks where they are.

use extent_map::file::AllocateMode;
use extent_map::probe::Mutation;

use crate::model::{Model, ensure};
use crate::world::World;

#[test]
fn writeback_beside_collapse_remembers_no_place_that_has_moved() {
    Model {
        name: "writeback, collapse",
        asserts: &[3, 22],
        broken: &[&[
            Mutation::WritebackCachesNeighbours,
            Mutation::QueryBesideChanges,
        ]],
        body: |case| {
            let world = World::with_hole(case, 4);
            world.allocate(AllocateMode::Allocate, 0, 4);
            world.write(3, 2);
            world.sync();
            world.write(0, 1);
            world.forget();
            world.race([
                ("writeback", &|| world.sync()),
                ("collapse", &|| {
                    world.allocate(AllocateMode::CollapseRange, 1, 1)
                }),
            ]);
            world.expect_pages(&[[1, 0, 2]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn writeback_beside_insert_remembers_no_place_that_has_moved() {
    Model {
        name: "writeback, insert",
        asserts: &[3, 22],
        broken: &[&[
            Mutation::WritebackCachesNeighbours,
            Mutation::QueryBesideChanges,
        ]],
        body: |case| {
            let world = World::with_hole(case, 3);
            world.allocate(AllocateMode::Allocate, 0, 3);
            world.write(0, 1);
            world.forget();
            world.race([
                ("writeback", &|| world.sync()),
                ("insert", &|| {
                    world.allocate(AllocateMode::InsertRange, 1, 1)
                }),
            ]);
            world.expect_pages(&[[1, 0, 0, 0]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_read_beside_collapse_sees_the_page_before_or_after() {
    Model {
        name: "read, collapse",
        asserts: &[10, 22],
        broken: &[&[Mutation::ShiftBesideFaults]],
        body: |case| {
            let world = World::with_hole(case, 3);
            for (page, byte) in [(0, 1), (1, 2), (2, 3)] {
                world.write(page, byte);
            }
            world.sync();
            assert_eq!(world.volume.drop_caches(), Ok(()));
            world.race([
                ("read", &|| {
                    let byte = world.first_byte_of(1);
                    ensure(22, [2, 3].contains(&byte), || format!("byte {byte}"));
                }),
                ("collapse", &|| {
                    world.allocate(AllocateMode::CollapseRange, 0, 1)
                }),
            ]);
            world.expect_pages(&[[2, 3]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_store_beside_insert_hits_the_page_before_or_after() {
    Model {
        name: "store, insert",
        asserts: &[22],
        broken: &[&[Mutation::ShiftBesideFaults]],
        body: |case| {
            let world = World::with_hole(case, 2);
            world.write(0, 1);
            world.race([
                ("store", &|| world.store(0, 2)),
                ("insert", &|| {
                    world.allocate(AllocateMode::InsertRange, 0, 1)
                }),
            ]);
            world.expect_pages(&[[0, 2, 0], [2, 1, 0]]);
            world.check();
        },
    }
    .verify();
}
