//! Calls drawn by lot, so that many succeed and each errno is seen.
//!
//! Not: how they are made (`calls.rs`).

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, ResolveFlags};

use super::{PUNCH, Pair, ROOT_ENTRY};
use crate::disk::SIZE_MAX;

impl Pair {
    /// One call, drawn by lot.
    pub(super) fn step(&mut self) {
        let from = self.draw_from();
        let path = self.draw_path();
        let from2 = self.draw_from();
        let path2 = self.draw_path();
        let entry = self.rng.usize(0..self.open.len());
        let at = self.draw_offset();
        let len = self.draw_offset();
        match self.rng.u8(0..100) {
            0..20 => {
                let (flags, mode, resolve) = self.draw_open();
                self.open(from, &path, flags, mode, resolve);
            }
            20..25 if entry > 0 => self.close(entry),
            20..35 => {
                let data: Vec<u8> = std::iter::repeat_with(|| self.rng.u8(..)).take(6000).collect();
                let len = usize::try_from(len % 6000).unwrap();
                self.write(entry, at, &data[..len]);
            }
            35..45 => self.read(entry, at, usize::try_from(len % 9000).unwrap()),
            45..50 => self.truncate(entry, at),
            50..55 => {
                let flags = self.draw_fallocate();
                self.fallocate(entry, flags, at, len);
            }
            55..62 => self.mkdir(from, &path),
            62..64 => self.mkfifo(from, &path),
            64..70 => self.symlink(&path2, from, &path),
            70..76 => {
                let empty = if self.rng.u8(0..3) == 0 { &b""[..] } else { &path };
                let flags = AtFlags::from_bits_retain(self.rng.choice([0, 0x400, 0x1000]).unwrap());
                self.link(from, empty, from2, &path2, flags);
            }
            76..84 => {
                let is_dir = self.rng.u8(0..3) == 0;
                self.unlink(from, &path, is_dir);
            }
            84..94 => {
                let flags =
                    RenameFlags::from_bits_retain(self.rng.choice([0, 0, 1, 2, 3]).unwrap());
                self.rename(from, &path, from2, &path2, flags);
            }
            94..95 => self.readlink(from, &path),
            95..98 => {
                let follow = self.rng.bool();
                self.lookup(from, &path, follow);
            }
            98..99 => self.disk.write_back(&mut self.rng),
            _ if self.disk.sync(self.open[entry].id, false).is_err() => self.disk.sync_all(),
            _ => {}
        }
    }

    fn draw_from(&mut self) -> usize {
        if self.rng.bool() { ROOT_ENTRY } else { self.rng.usize(0..self.open.len()) }
    }

    fn draw_path(&mut self) -> Vec<u8> {
        match self.rng.u16(0..200) {
            0 => return Vec::new(),
            1 => return b"x".repeat(self.rng.usize(254..=256)),
            2 => return b"./".repeat(2048)[..self.rng.usize(4094..=4096)].to_vec(),
            3 => return b"/".to_vec(),
            _ => {}
        }
        let mut path = Vec::new();
        if self.rng.u8(0..8) == 0 {
            path.push(b'/');
        }
        for part in 0..self.rng.choice([1, 1, 1, 2, 2, 3]).unwrap() {
            if part > 0 {
                path.extend(if self.rng.u8(0..8) == 0 { &b"//"[..] } else { b"/" });
            }
            let names = ["a", "b", "c", "d", "e", "a", "b", "c", "d", "e", "f", "g", ".", ".."];
            path.extend(self.rng.choice(names).unwrap().as_bytes());
        }
        if self.rng.u8(0..10) == 0 {
            path.push(b'/');
        }
        path
    }

    fn draw_offset(&mut self) -> u64 {
        match self.rng.u8(0..20) {
            0 => self.rng.choice([0, SIZE_MAX + 1, u64::MAX, i64::MAX as u64]).unwrap(),
            1..8 => self.rng.u64(0..6) * 4096,
            8..12 => self.rng.u64(0..40) * 512,
            _ => self.rng.u64(0..20_000),
        }
    }

    fn draw_open(&mut self) -> (OFlags, Mode, ResolveFlags) {
        let rng = &mut self.rng;
        let mut flags = rng.choice([OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR]).unwrap();
        let some = [
            (OFlags::CREATE, 2),
            (OFlags::EXCL, 6),
            (OFlags::TRUNC, 6),
            (OFlags::APPEND, 8),
            (OFlags::DIRECTORY, 8),
            (OFlags::NOFOLLOW, 8),
            (OFlags::TMPFILE, 16),
            (OFlags::from_bits_retain(0x4000_0000), 200),
        ];
        for (flag, seldom) in some {
            flags.set(flag, flags.contains(flag) || rng.u8(0..seldom) == 0);
        }
        if rng.u8(0..10) == 0 {
            flags = OFlags::PATH | flags & (OFlags::DIRECTORY | OFlags::NOFOLLOW);
        }
        let makes = flags.intersects(OFlags::CREATE | (OFlags::TMPFILE - OFlags::DIRECTORY));
        let mode = match rng.u8(0..100) {
            0 => 0o10600,
            1 => 0o600,
            _ if makes => rng.choice([0o600, 0o700, 0o400]).unwrap(),
            _ => 0,
        };
        let mut resolve = ResolveFlags::empty();
        let all = [ResolveFlags::BENEATH, ResolveFlags::IN_ROOT, ResolveFlags::NO_SYMLINKS];
        for flag in all {
            resolve.set(flag, rng.u8(0..8) == 0);
        }
        (flags, Mode::from_raw_mode(mode), resolve)
    }

    fn draw_fallocate(&mut self) -> FallocateFlags {
        let all = [
            FallocateFlags::empty(),
            FallocateFlags::KEEP_SIZE,
            PUNCH,
            FallocateFlags::ZERO_RANGE,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::PUNCH_HOLE,
            PUNCH | FallocateFlags::ZERO_RANGE,
        ];
        self.rng.choice(all).unwrap()
    }
}
