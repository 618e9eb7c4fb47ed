//! Opening: which inode a path, with flags, leads to or makes.
//!
//! The rules are those of `openat2(2)`, which refuses what `openat(2)` overlooks: who plays the
//! latter clears unknown flags first, and the mode where nothing is made.
//!
//! Not: what a descriptor may then do, nor that an open FIFO waits for its other end.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::content::Content;
use super::inode::{Body, InodeId};
use super::journal::What;
use super::names::Making;
use super::paths::{Last, Walk};
use super::{Disk, Kind};

/// What `O_TMPFILE` has beside `O_DIRECTORY`.
const TMPFILE: OFlags = OFlags::TMPFILE.difference(OFlags::DIRECTORY);

const MODE: u32 = 0o7777;

impl Disk {
    /// The inode that is opened, made or emptied on the way. It is not held yet.
    pub(crate) fn open(
        &mut self,
        from: InodeId,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
        resolve: ResolveFlags,
    ) -> Result<InodeId> {
        check_flags(flags, mode, resolve)?;
        if flags.intersects(TMPFILE) {
            return self.make_unnamed(from, path, flags, mode, resolve);
        }
        let exclusive = flags.contains(OFlags::CREATE | OFlags::EXCL);
        let follow = !flags.contains(OFlags::NOFOLLOW) && !exclusive;
        let mut walk = Walk::new(self, from, path, resolve)?;
        if !flags.contains(OFlags::CREATE) {
            let id = walk.end(self, follow)?;
            return self.open_there(id, flags);
        }
        loop {
            let place = walk.place(self)?;
            let Last::Name(name) = &place.last else {
                let id = walk.dots(self, &place.last)?;
                return self.open_there(id, flags);
            };
            if place.slash {
                return Err(Errno::ISDIR);
            }
            let Some(id) = self.child(place.dir, name)? else {
                let making = Making { what: What::Create, mode: mode.as_raw_mode() & MODE };
                let body = Body::File(Content::default());
                return Ok(self.make(making, place.dir, name, body));
            };
            match &self.inode(id).body {
                Body::Symlink(target) if follow => walk.follow(target, false)?,
                Body::Symlink(_) | Body::File(_) | Body::Directory(_) | Body::Fifo => {
                    return self.open_there(id, flags);
                }
            }
        }
    }

    /// Opens what is there.
    fn open_there(&mut self, id: InodeId, flags: OFlags) -> Result<InodeId> {
        let kind = self.kind(id);
        if flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Err(Errno::EXIST);
        }
        if flags.contains(OFlags::CREATE) && kind == Kind::Directory {
            return Err(Errno::ISDIR);
        }
        if flags.contains(OFlags::DIRECTORY) && kind != Kind::Directory {
            return Err(Errno::NOTDIR);
        }
        if flags.contains(OFlags::PATH) {
            return Ok(id);
        }
        match kind {
            Kind::Symlink => return Err(Errno::LOOP),
            Kind::Directory if writes(flags) => return Err(Errno::ISDIR),
            Kind::File if flags.contains(OFlags::TRUNC) => self.truncate(id, 0)?,
            Kind::Directory | Kind::File | Kind::Fifo => {}
        }
        Ok(id)
    }

    fn make_unnamed(
        &mut self,
        from: InodeId,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
        resolve: ResolveFlags,
    ) -> Result<InodeId> {
        let follow = !flags.contains(OFlags::NOFOLLOW);
        let dir = Walk::new(self, from, path, resolve)?.end(self, follow)?;
        self.inode(dir).directory()?;
        let id = self.add(Body::File(Content::default()), mode.as_raw_mode() & MODE);
        self.inode_mut(id).linkable = !flags.contains(OFlags::EXCL);
        Ok(id)
    }
}

/// As `build_open_flags` in Linux's `open.c`.
fn check_flags(flags: OFlags, mode: Mode, resolve: ResolveFlags) -> Result<()> {
    let known = OFlags::ACCMODE.difference(OFlags::PATH)
        | OFlags::CREATE
        | OFlags::EXCL
        | OFlags::NOCTTY
        | OFlags::TRUNC
        | OFlags::APPEND
        | OFlags::NONBLOCK
        | OFlags::SYNC
        | OFlags::DSYNC
        | OFlags::ASYNC
        | OFlags::DIRECT
        | OFlags::LARGEFILE
        | OFlags::DIRECTORY
        | OFlags::NOFOLLOW
        | OFlags::NOATIME
        | OFlags::CLOEXEC
        | OFlags::PATH
        | OFlags::TMPFILE;
    let known_resolve = ResolveFlags::NO_XDEV
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::BENEATH
        | ResolveFlags::IN_ROOT
        | ResolveFlags::CACHED;
    let makes = flags.intersects(OFlags::CREATE | TMPFILE);
    let allowed_mode = if makes { MODE } else { 0 };
    let of_path = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::CLOEXEC;
    let bad = !known.contains(flags)
        || !known_resolve.contains(resolve)
        || resolve.contains(ResolveFlags::BENEATH | ResolveFlags::IN_ROOT)
        || mode.as_raw_mode() & !allowed_mode != 0
        || flags.contains(OFlags::DIRECTORY | OFlags::CREATE)
        || flags.intersects(TMPFILE)
            && !(flags.contains(OFlags::DIRECTORY) && writes(flags - OFlags::TRUNC))
        || flags.contains(OFlags::PATH) && !of_path.contains(flags);
    if bad {
        return Err(Errno::INVAL);
    }
    let cached = resolve.contains(ResolveFlags::CACHED);
    if cached && flags.intersects(OFlags::TRUNC | OFlags::CREATE | TMPFILE) {
        return Err(Errno::AGAIN);
    }
    Ok(())
}

/// Whether what is opened must be writable.
fn writes(flags: OFlags) -> bool {
    flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC)
}
