//! Scratch.
use extent_map::device::*;
use extent_map::file::{AllocateMode, Volume, VolumeOptions};
use extent_map::mapping::MemoryStore;
use extent_map::testing;
use extent_map::units::FileNumber;
use std::sync::Arc;
const BLOCK: u64 = 4096;

#[test]
fn a1_punch_at_limit() {
    for bs in [512u64, 1024, 2048, 4096] {
        for ratio in [1u64, 16] {
            let volume = Volume::format(
                Arc::new(MemoryDevice::new(4 << 20)),
                &VolumeOptions::new().block_size(bs).cluster_blocks(ratio),
            )
            .unwrap();
            let file = volume.file(FileNumber(1)).unwrap();
            let free = volume.statfs().free_blocks;
            let max = u64::from(u32::MAX) * bs;
            file.set_len(max - 1).unwrap();
            assert_eq!(file.write_at(max - 5000, &[1; 4999]), Ok(4999));
            assert_eq!(file.store_mapped(max - 100, &[2; 10]), Ok(10));
            testing::check(&volume).unwrap();
            file.sync_all().unwrap();
            testing::check_synced(&volume).unwrap();
            assert_eq!(
                file.allocate(AllocateMode::ZeroRange, max - 3000, 3000),
                Ok(()),
                "{bs} {ratio}"
            );
            assert_eq!(file.set_len(max - 1), Ok(()));
            assert_eq!(
                file.allocate(AllocateMode::PunchHole, max - 2500, 2500),
                Ok(()),
                "{bs} {ratio}"
            );
            testing::check(&volume).unwrap();
            volume.drop_caches().unwrap();
            assert_eq!(
                file.allocate(AllocateMode::AllocateKeepSize, max - 30000, 30000),
                Ok(()),
                "{bs} {ratio}"
            );
            let _ = file.extents().unwrap();
            assert_eq!(file.set_len(0), Ok(()));
            testing::check(&volume).unwrap();
            assert_eq!(volume.statfs().free_blocks, free);
        }
    }
}

#[test]
fn a2_low_space() {
    for n in [u64::MAX, u64::MAX / 2] {
        let volume = Volume::format(
            Arc::new(MemoryDevice::new(4 << 20)),
            &VolumeOptions::new()
                .low_space_clusters(n)
                .group_clusters(u64::MAX),
        )
        .unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        let _r = volume;
        file.write_at(0, &[1]).unwrap();
    }
    let volume = Volume::format(
        Arc::new(MemoryDevice::new(4 << 20)),
        &VolumeOptions::new()
            .inline_limit(100)
            .low_space_clusters(u64::MAX),
    )
    .unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    file.write_at(0, &[1; 10000]).unwrap();
    file.write_at(20000, &[1; 10000]).unwrap();
}

#[test]
fn a3_pieces_of_one_extent() {
    // groups of 4 clusters; run of delayed blocks spans two groups.
    for max in 1..4 {
        let store = Arc::new(MemoryStore::with_max_extents(max));
        let device = Arc::new(MemoryDevice::new(64 * BLOCK));
        let volume = Volume::with_store(
            device,
            store,
            &VolumeOptions::new().group_clusters(4).low_space_clusters(0),
        )
        .unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        let data: Vec<u8> = (0..7 * BLOCK).map(|i| 1 + (i / BLOCK) as u8).collect();
        assert_eq!(file.write_at(0, &data), Ok(data.len()));
        println!("{:?}", file.extents());
        println!("{:?}", file.sync_all());
        println!("{:?}", file.extents());
        volume.drop_caches().unwrap();
        let mut back = vec![0; data.len()];
        file.read_at(0, &mut back).unwrap();
        assert!(
            back == data,
            "{max}: {:?}",
            back.chunks(BLOCK as usize)
                .map(|c| c[0])
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn a4_tail_comes_back() {
    let grow: [(&str, &dyn Fn(&extent_map::file::File)); 4] = [
        ("set_len", &|f| f.set_len(BLOCK).unwrap()),
        ("write", &|f| {
            f.write_at(2 * BLOCK, &[5]).unwrap();
        }),
        ("allocate", &|f| {
            f.allocate(AllocateMode::Allocate, 2 * BLOCK, 10).unwrap()
        }),
        ("zero", &|f| {
            f.allocate(AllocateMode::ZeroRange, 2 * BLOCK, 10).unwrap()
        }),
    ];
    let mut bad = vec![];
    for (name, grow) in grow {
        let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
        let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.write_at(0, &[1; BLOCK as usize]).unwrap();
        file.sync_all().unwrap();
        file.set_len(100).unwrap();
        device.fail_at(Some(OperationKind::Write), 0);
        assert!(volume.drop_caches().is_err());
        grow(&file);
        let mut content = [9; BLOCK as usize];
        assert_eq!(file.read_at(0, &mut content), Ok(BLOCK as usize));
        if content[100..].iter().any(|byte| *byte != 0) {
            bad.push(name);
        }
    }
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn a5_collapse() {
    for mode in [AllocateMode::CollapseRange, AllocateMode::InsertRange] {
        let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
        let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.write_at(0, &[1; 3 * BLOCK as usize]).unwrap();
        device.fail_at(Some(OperationKind::Write), 0);
        println!("{:?}", file.allocate(mode, 0, BLOCK));
    }
}

#[test]
fn a6_flush_of_other() {
    let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
    let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
    let a = volume.file(FileNumber(1)).unwrap();
    let b = volume.file(FileNumber(2)).unwrap();
    a.write_at(0, &[1; 100]).unwrap();
    b.write_at(0, &[1; 100]).unwrap();
    b.sync_range(0, 0).unwrap();
    device.fail_at(Some(OperationKind::Flush), 0);
    assert!(a.sync_all().is_err());
    assert!(
        b.sync_all().is_err(),
        "b's data may be lost and nobody says so"
    );
}

#[test]
fn a7_new_handle() {
    let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
    let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
    volume
        .file(FileNumber(1))
        .unwrap()
        .write_at(0, &[1; 100])
        .unwrap();
    device.fail_at(Some(OperationKind::Write), 0);
    println!("{:?}", volume.sync());
    println!("{:?}", volume.file(FileNumber(1)).unwrap().sync_all());
}

#[test]
fn a8_close_beside_writer() {
    let mut seen = 0;
    for _ in 0..200 {
        let volume =
            Volume::format(Arc::new(MemoryDevice::new(16 << 20)), &VolumeOptions::new()).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        std::thread::scope(|s| {
            s.spawn(|| {
                for i in 0..200 {
                    file.write_at(i * BLOCK, &[1]).unwrap();
                }
            });
            std::thread::sleep(std::time::Duration::from_micros(100));
            if let Err(e) = volume.close() {
                seen += 1;
                if seen == 1 {
                    println!("{e:?}");
                }
            }
        });
    }
    println!("{seen} of 200");
    assert_eq!(seen, 0);
}

#[test]
fn a9_inline_shrinks_and_device_boundaries() {
    for bs in [512u64, 4096] {
        let volume = Volume::format(
            Arc::new(MemoryDevice::new(1 << 20)),
            &VolumeOptions::new().block_size(bs).inline_limit(4096),
        )
        .unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.write_at(4000, &[1; 96]).unwrap();
        file.store_mapped(10, &[2; 10]).unwrap();
        testing::check(&volume).unwrap();
        file.set_len(0).unwrap();
        volume.drop_caches().unwrap();
        testing::check_synced(&volume).unwrap();
        volume.close().unwrap();
    }
}
#[test]
fn b1_nested_faulty_and_loop_device() {
    let inner = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
    let device = Arc::new(FaultyDevice::new(inner));
    let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    file.write_at(0, &[1; 100]).unwrap();
    file.sync_all().unwrap();
}
