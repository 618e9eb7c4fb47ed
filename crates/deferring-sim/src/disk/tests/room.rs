//! Stories of what takes room, and of what comes when there is none.

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::{Disk, ROOT};
use super::{bytes, create};

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

#[test]
fn a_full_disk_writes_what_it_can_and_then_nothing() {
    let mut disk = Disk::with_capacity(3 * 4096);
    let id = create(&mut disk, "f");
    assert_eq!(disk.write(id, 0, &[1; 10_000]), Ok(10_000));
    assert_eq!(disk.append(id, &[2; 10_000]), Ok(3 * 4096 - 10_000));
    assert_eq!(disk.append(id, &[2; 1]), Err(Errno::NOSPC));
    assert_eq!(disk.write(id, 5000, &[3; 4096]), Ok(4096), "in place there is room");
    disk.truncate(id, 4096).unwrap();
    assert_eq!(disk.append(id, &[2; 4096]), Ok(4096));
}

#[test]
fn holes_take_no_room_and_reserved_chunks_do() {
    let mut disk = Disk::with_capacity(4 * 4096);
    let id = create(&mut disk, "f");
    disk.truncate(id, 1 << 40).unwrap();
    assert_eq!(disk.stat(id).blocks, 0);
    disk.fallocate(id, FallocateFlags::empty(), 1 << 30, 8193).unwrap();
    assert_eq!(disk.stat(id).blocks, 24);
    let more = disk.fallocate(id, FallocateFlags::KEEP_SIZE, 0, 8192);
    assert_eq!(more, Err(Errno::NOSPC));
    assert_eq!(disk.stat(id).blocks, 24, "all or nothing");
    disk.fallocate(id, PUNCH, (1 << 30) + 1, 4096 * 3).unwrap();
    assert_eq!(disk.stat(id).blocks, 8);
}

#[test]
fn an_unlinked_file_takes_room_until_its_last_descriptor_is_closed() {
    let mut disk = Disk::with_capacity(4096);
    let id = create(&mut disk, "f");
    disk.hold(id);
    disk.hold(id);
    disk.write(id, 0, b"bytes").unwrap();
    disk.unlink(ROOT, b"f", false).unwrap();
    disk.release(id);
    assert_eq!(bytes(&disk, id), b"bytes");
    let other = create(&mut disk, "g");
    assert_eq!(disk.write(other, 0, b"bytes"), Err(Errno::NOSPC));
    disk.release(id);
    assert_eq!(disk.write(other, 0, b"bytes"), Ok(5));
}

#[test]
fn what_is_gone_is_freed_though_nobody_syncs() {
    let mut disk = Disk::new();
    for _ in 0..10_000 {
        let id = create(&mut disk, "f");
        disk.write(id, 0, &[1; 4096]).unwrap();
        disk.rename(ROOT, b"f", ROOT, b"g", RenameFlags::empty()).unwrap();
    }
    assert!(disk.inodes.iter().flatten().count() < 2000);
    for _ in 0..1000 {
        let id = create(&mut disk, "f");
        disk.write(id, 0, &[1; 1 << 20]).unwrap();
        disk.unlink(ROOT, b"f", false).unwrap();
    }
    assert!(disk.ghosts <= 4096 && disk.used == 1);
}

#[test]
fn a_file_without_a_name_can_be_given_one_unless_it_was_made_exclusive() {
    let mut disk = Disk::new();
    let inclusive = (OFlags::empty(), b"f", Ok(()));
    for (flags, name, linked) in [inclusive, (OFlags::EXCL, b"g", Err(Errno::NOENT))] {
        let flags = OFlags::TMPFILE | OFlags::RDWR | flags;
        let id = disk.open(ROOT, b".", flags, Mode::RUSR, ResolveFlags::empty()).unwrap();
        disk.hold(id);
        assert_eq!(disk.link(id, b"", ROOT, name, AtFlags::EMPTY_PATH), linked);
        assert_eq!(disk.stat(id).nlink, u32::from(linked.is_ok()));
        disk.release(id);
    }
}
