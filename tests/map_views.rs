//! The ways to read an extent map beside single lookups: many at once, views that remember where they were, iteration. They
//! answer as single lookups do.

use extent_map::map::{Extent, ExtentMap, Reclaimer};

/// Every second block of the first `blocks` ones, in extents that do not merge.
fn striped(blocks: u64) -> ExtentMap<u64> {
    let map = ExtentMap::new();
    let mut edit = map.edit();
    (0..blocks)
        .step_by(2)
        .for_each(|block| drop(edit.insert(block..=block, block << 32)));
    drop(edit);
    map
}

#[test]
fn many_lookups_at_once_answer_as_single_ones_do() {
    for blocks in [0, 2, 50, 5000] {
        let map = striped(blocks);
        let view = map.pin();
        // More than share a pin, in no order, some behind the last extent.
        let asked: Vec<u64> = (0..300).map(|n| n * 7919 % (blocks + 3)).collect();
        let mut answers = Vec::new();
        view.get_many(&asked, |block, found| answers.push((block, found)));
        let expected: Vec<_> = asked
            .iter()
            .map(|block| (*block, view.get(*block)))
            .collect();
        assert_eq!(answers, expected);
    }
    striped(10)
        .pin()
        .get_many(&[], |_, _| panic!("nobody asked"));
}

#[test]
fn what_is_done_with_an_answer_may_change_the_map() {
    let map = striped(400);
    let asked: Vec<u64> = (0..400).collect();
    let mut mapped = 0;
    map.pin().get_many(&asked, |_, found| {
        if let Some(extent) = found {
            mapped += 1;
            map.remove(extent.range()).unwrap();
        }
    });
    assert_eq!((mapped, map.pin().first()), (200, None));
}

#[test]
fn a_view_in_rising_order_sees_every_edit_between_its_lookups() {
    let map = ExtentMap::new();
    map.insert(0..100, 1_u64 << 32).unwrap();
    let view = map.pin();
    let value = |block| view.get(block).map(Extent::value);
    for block in 0..50 {
        assert_eq!(value(block), Some(1 << 32));
    }
    map.insert(0..100, 2 << 32).unwrap();
    assert_eq!(value(50), Some(2 << 32), "another value, in place");
    map.insert(100..120, (2 << 32) + 100).unwrap();
    assert_eq!(view.get(51).map(Extent::last), Some(119), "grown in place");
    map.remove(0..60).unwrap();
    assert_eq!((value(52), value(60)), (None, Some((2 << 32) + 60)));
    map.remove(..).unwrap();
    assert_eq!((value(61), value(62)), (None, None));
}

#[test]
fn threads_can_register_by_themselves() {
    let reclaimer = Reclaimer::new();
    let map = ExtentMap::<u64>::with_reclaimer(&reclaimer);
    let handle = reclaimer.register();
    let mut edit = map.edit_with(&handle).unwrap();
    for n in 0..1000 {
        edit.insert(n * 2..=n * 2, n << 32).unwrap();
    }
    drop(edit);
    let view = map.pin_with(&handle).unwrap();
    assert_eq!(view.iter().count(), 1000);
    assert_eq!(view.get(4).map(Extent::value), Some(2 << 32));
}

#[test]
fn an_editor_finds_the_next_extent_as_a_view_does() {
    let map = striped(5000);
    let view = map.pin();
    let edit = map.edit();
    for block in [0, 1, 777, 4997, 4998, 4999, 5000, u64::MAX] {
        let found = edit.next_from(block);
        assert_eq!(found, view.next_from(block), "{block}");
        assert_eq!(found.is_some(), block <= 4998);
    }
}

#[test]
fn a_view_is_iterated_and_a_map_printed_extent_by_extent() {
    let map = ExtentMap::<u64>::default();
    assert_eq!(format!("{map:?}"), "{}");
    map.insert(2..4, 7 << 32).unwrap();
    map.insert(8..=8, 9).unwrap();
    let view = map.pin();
    let extents: Vec<Extent<u64>> = (&view).into_iter().collect();
    assert_eq!(extents, view.iter().collect::<Vec<_>>());
    assert_eq!(extents.len(), 2);
    let printed = format!("{map:?}");
    for extent in &extents {
        assert!(printed.contains(&format!("{extent:?}")), "{printed}");
    }
}
