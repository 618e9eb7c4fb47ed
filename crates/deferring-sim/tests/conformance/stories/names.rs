//! Names in directories, and what they lead to.
//!
//! Not: thousands of paths by lot (`script/`).

use deferring::op::{Openat2, Statx};
use deferring::{AtFlags, Fd, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, StatxFlags};
use rustix::io::Errno;

use super::fails;
use crate::worlds::{Form, World};

const NONE: AtFlags = AtFlags::empty();
const MAKE: OFlags = OFlags::CREATE.union(OFlags::RDWR);

impl World {
    async fn mkdir(&self, path: &str) -> std::io::Result<()> {
        self.ring.mkdirat(&self.dir, path, Mode::RWXU).await
    }

    async fn unlink(&self, path: &str, flags: AtFlags) -> std::io::Result<()> {
        self.ring.unlinkat(&self.dir, path, flags).await
    }

    async fn rename(&self, from: &str, to: &str, flags: RenameFlags) -> std::io::Result<()> {
        self.ring.renameat2(&self.dir, from, &self.dir, to, flags).await
    }

    async fn link(&self, target: &str, link: &str, flags: AtFlags) -> std::io::Result<()> {
        self.ring.linkat(&self.dir, target, &self.dir, link, flags).await
    }

    async fn symlink(&self, target: &str, link: &str) -> std::io::Result<()> {
        self.ring.symlinkat(target, &self.dir, link).await
    }

    async fn stat(&self, path: &str, flags: AtFlags) -> std::io::Result<Stat> {
        self.ring.statx(&self.dir, path, flags, Stat::EVERYTHING).await
    }

    async fn stat_of(&self, fd: &Fd) -> std::io::Result<Stat> {
        self.ring.queue(Statx::of(fd)).await
    }

    async fn walk(&self, path: &str, resolve: ResolveFlags) -> std::io::Result<Fd> {
        self.ring.queue(Openat2::new(&self.dir, path).resolve(resolve)).await
    }
}

pub(crate) async fn open_makes_empties_and_refuses(world: &World) {
    fails(world.open("a", OFlags::RDONLY).await, Errno::NOENT);
    let made = world.open("a", MAKE | OFlags::EXCL).await.unwrap();
    world.write_at(&made, "bytes", 0).await.unwrap();
    fails(world.open("a", MAKE | OFlags::EXCL).await, Errno::EXIST);
    world.open("a", MAKE).await.unwrap();
    assert_eq!(world.read("a").unwrap(), b"bytes");
    fails(world.open("a", OFlags::RDONLY | OFlags::DIRECTORY).await, Errno::NOTDIR);
    world.open("a", OFlags::WRONLY | OFlags::TRUNC).await.unwrap();
    assert_eq!(world.read("a").unwrap(), b"");
    world.mkdir("d").await.unwrap();
    fails(world.open("d", OFlags::WRONLY).await, Errno::ISDIR);
    fails(world.open("d", OFlags::RDWR).await, Errno::ISDIR);
    fails(world.open("d", OFlags::RDONLY | OFlags::TRUNC).await, Errno::ISDIR);
    fails(world.open("d", MAKE).await, Errno::ISDIR);
    fails(world.open("new/", MAKE).await, Errno::ISDIR);
    fails(world.open("a/", OFlags::RDONLY).await, Errno::NOTDIR);
    fails(world.open("a/b", MAKE).await, Errno::NOTDIR);
    fails(world.open("none/b", MAKE).await, Errno::NOENT);
    world.symlink("a", "to_a").await.unwrap();
    fails(world.open("to_a", OFlags::RDONLY | OFlags::NOFOLLOW).await, Errno::LOOP);
    fails(world.open("to_a", MAKE | OFlags::EXCL).await, Errno::EXIST);
    world.symlink("c", "to_c").await.unwrap();
    fails(world.open("to_c", OFlags::RDONLY).await, Errno::NOENT);
    world.open("to_c", MAKE).await.unwrap();
    assert_eq!(world.list("").unwrap(), ["a", "c", "d", "to_a", "to_c"]);
}

pub(crate) async fn open_flags_that_do_not_go_together(world: &World) {
    world.file("a", b"").await;
    let how = |flags: OFlags, mode: u32| {
        let open = Openat2::new(&world.dir, "a").flags(flags).mode(Mode::from_bits_retain(mode));
        world.ring.queue(open)
    };
    fails(how(OFlags::RDONLY, 0o600).await, Errno::INVAL);
    fails(how(MAKE, 0o10_600).await, Errno::INVAL);
    fails(how(OFlags::from_bits_retain(1 << 30), 0).await, Errno::INVAL);
    fails(how(OFlags::CREATE | OFlags::DIRECTORY, 0o600).await, Errno::INVAL);
    fails(how(OFlags::PATH | OFlags::RDWR, 0).await, Errno::INVAL);
    fails(how(OFlags::PATH | OFlags::NONBLOCK, 0).await, Errno::INVAL);
    fails(how(OFlags::TMPFILE, 0o600).await, Errno::INVAL);
    fails(how(OFlags::TMPFILE | OFlags::RDWR, 0o600).await, Errno::NOTDIR);
    let both = ResolveFlags::BENEATH | ResolveFlags::IN_ROOT;
    fails(world.walk("a", both).await, Errno::INVAL);
    fails(world.walk("a", ResolveFlags::from_bits_retain(1 << 40)).await, Errno::INVAL);
    let cached = Openat2::new(&world.dir, "a").flags(MAKE).mode(Mode::RUSR);
    fails(world.ring.queue(cached.resolve(ResolveFlags::CACHED)).await, Errno::AGAIN);
    if Form::here().ext4 {
        let file = world.open(".", OFlags::TMPFILE | OFlags::RDWR).await.unwrap();
        world.write_at(&file, "unnamed", 0).await.unwrap();
        assert_eq!(world.stat_of(&file).await.unwrap().nlink(), Some(0));
        assert_eq!(world.list("").unwrap(), ["a"]);
    }
}

pub(crate) async fn paths_that_lead_nowhere(world: &World) {
    let file = world.file("a", b"").await;
    let long = "x".repeat(256);
    for path in ["", "none", "none/a", "d\0d"] {
        fails(world.open(path, OFlags::RDONLY).await, Errno::NOENT);
        fails(world.stat(path, NONE).await, Errno::NOENT);
        fails(world.unlink(path, NONE).await, Errno::NOENT);
        fails(world.link(path, "b", NONE).await, Errno::NOENT);
        fails(world.rename(path, "b", RenameFlags::empty()).await, Errno::NOENT);
    }
    for path in ["", "none/a", "d\0d"] {
        fails(world.mkdir(path).await, Errno::NOENT);
        fails(world.symlink("a", path).await, Errno::NOENT);
    }
    fails(world.symlink("", "b").await, Errno::NOENT);
    fails(world.open(&long, MAKE).await, Errno::NAMETOOLONG);
    fails(world.mkdir(&long).await, Errno::NAMETOOLONG);
    fails(world.stat(&"./".repeat(2048), NONE).await, Errno::NAMETOOLONG);
    fails(world.stat("a/b", NONE).await, Errno::NOTDIR);
    fails(world.mkdir("a/b").await, Errno::NOTDIR);
    let from_file = world.ring.mkdirat(&file, "b", Mode::RWXU);
    fails(from_file.await, Errno::NOTDIR);
    let (input, _output) = world.pipe();
    fails(world.ring.mkdirat(&input, "b", Mode::RWXU).await, Errno::NOTDIR);
    world.symlink("loop", "loop").await.unwrap();
    fails(world.open("loop", OFlags::RDONLY).await, Errno::LOOP);
    fails(world.open("loop", MAKE).await, Errno::LOOP);
    fails(world.stat("loop/a", NONE).await, Errno::LOOP);
    fails(world.mkdir("loop").await, Errno::EXIST);
    world.stat("loop", AtFlags::SYMLINK_NOFOLLOW).await.unwrap();
}

pub(crate) async fn a_walk_can_be_confined(world: &World) {
    world.mkdir("d").await.unwrap();
    world.file("d/a", b"").await;
    world.symlink("d", "to_d").await.unwrap();
    world.symlink("/none", "away").await.unwrap();
    let (beneath, in_root) = (ResolveFlags::BENEATH, ResolveFlags::IN_ROOT);
    world.walk("d/a", beneath).await.unwrap();
    world.walk("d/../to_d/a", beneath).await.unwrap();
    fails(world.walk("..", beneath).await, Errno::XDEV);
    fails(world.walk("d/../..", beneath).await, Errno::XDEV);
    fails(world.walk("/", beneath).await, Errno::XDEV);
    fails(world.walk("away", beneath).await, Errno::XDEV);
    world.walk("../../d/a", in_root).await.unwrap();
    world.walk("/d/a", in_root).await.unwrap();
    fails(world.walk("away", in_root).await, Errno::NOENT);
    fails(world.walk("to_d/a", ResolveFlags::NO_SYMLINKS).await, Errno::LOOP);
    fails(world.walk("to_d", ResolveFlags::NO_SYMLINKS).await, Errno::LOOP);
    world.walk("d/a", ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV).await.unwrap();
}

pub(crate) async fn directories_are_made_and_removed(world: &World) {
    world.mkdir("d").await.unwrap();
    fails(world.mkdir("d").await, Errno::EXIST);
    fails(world.mkdir(".").await, Errno::EXIST);
    world.mkdir("d/e/").await.unwrap();
    fails(world.unlink("d", NONE).await, Errno::ISDIR);
    fails(world.unlink("d", AtFlags::REMOVEDIR).await, Errno::NOTEMPTY);
    fails(world.unlink("d/.", AtFlags::REMOVEDIR).await, Errno::INVAL);
    fails(world.unlink("d/..", AtFlags::REMOVEDIR).await, Errno::NOTEMPTY);
    let kept = world.open("d/e", OFlags::RDONLY).await.unwrap();
    world.unlink("d/e", AtFlags::REMOVEDIR).await.unwrap();
    fails(world.ring.mkdirat(&kept, "f", Mode::RWXU).await, Errno::NOENT);
    assert_eq!(world.stat_of(&kept).await.unwrap().nlink(), Some(0));
    world.file("a", b"").await;
    fails(world.unlink("a", AtFlags::REMOVEDIR).await, Errno::NOTDIR);
    fails(world.unlink("a/", NONE).await, Errno::NOTDIR);
    fails(world.unlink("a", AtFlags::SYMLINK_FOLLOW).await, Errno::INVAL);
    world.unlink("a", NONE).await.unwrap();
    world.unlink("d", AtFlags::REMOVEDIR).await.unwrap();
    fails(world.unlink("d", AtFlags::REMOVEDIR).await, Errno::NOENT);
    assert!(world.list("").unwrap().is_empty());
}

pub(crate) async fn renames_replace_refuse_and_exchange(world: &World) {
    let (no, exchange) = (RenameFlags::NOREPLACE, RenameFlags::EXCHANGE);
    let plain = RenameFlags::empty();
    world.file("a", b"a").await;
    world.file("b", b"b").await;
    world.mkdir("d").await.unwrap();
    world.mkdir("d/e").await.unwrap();
    fails(world.rename("a", "b", no).await, Errno::EXIST);
    fails(world.rename("a", "none", exchange).await, Errno::NOENT);
    fails(world.rename("a", "b", no | exchange).await, Errno::INVAL);
    fails(world.rename("a", "b", RenameFlags::from_bits_retain(1 << 9)).await, Errno::INVAL);
    fails(world.rename("a", "d", plain).await, Errno::ISDIR);
    fails(world.rename("d", "a", plain).await, Errno::NOTDIR);
    fails(world.rename("d", "d/e/f", plain).await, Errno::INVAL);
    fails(world.rename("d/e", "d", plain).await, Errno::NOTEMPTY);
    fails(world.rename("d/.", "f", plain).await, Errno::BUSY);
    fails(world.rename("a/", "f", plain).await, Errno::NOTDIR);
    world.rename("a", "b", exchange).await.unwrap();
    assert_eq!((world.read("a").unwrap(), world.read("b").unwrap()), (b"b".into(), b"a".into()));
    world.rename("a", "d/e/a", no).await.unwrap();
    world.rename("d", "b", exchange).await.unwrap();
    assert_eq!(
        (world.read("d").unwrap(), world.read("b/e/a").unwrap()),
        (b"a".into(), b"b".into())
    );
    world.rename("d", "b/e/a", plain).await.unwrap();
    assert_eq!(
        (world.list("").unwrap(), world.read("b/e/a").unwrap()),
        (vec!["b".into()], b"a".into())
    );
}

pub(crate) async fn links_and_what_they_stand_for(world: &World) {
    let file = world.file("a", b"bytes").await;
    world.mkdir("d").await.unwrap();
    world.link("a", "d/b", NONE).await.unwrap();
    fails(world.link("a", "d/b", NONE).await, Errno::EXIST);
    fails(world.link("d", "e", NONE).await, Errno::PERM);
    fails(world.link("a", "e/", NONE).await, Errno::NOENT);
    fails(world.link("a", "e", AtFlags::REMOVEDIR).await, Errno::INVAL);
    world.symlink("a", "s").await.unwrap();
    world.link("s", "s2", NONE).await.unwrap();
    world.link("s", "a2", AtFlags::SYMLINK_FOLLOW).await.unwrap();
    let stat = |path| world.stat(path, AtFlags::SYMLINK_NOFOLLOW);
    let (s2, a2) = (stat("s2").await.unwrap(), stat("a2").await.unwrap());
    assert_eq!((s2.file_type(), s2.nlink()), (Some(FileType::Symlink), Some(2)));
    assert_eq!((a2.file_type(), a2.nlink()), (Some(FileType::Regular), Some(3)));
    assert_eq!(a2.ino(), stat("a").await.unwrap().ino());
    for path in ["a", "d/b", "a2"] {
        world.unlink(path, NONE).await.unwrap();
    }
    fails(world.stat("s", NONE).await, Errno::NOENT);
    assert_eq!(world.stat_of(&file).await.unwrap().nlink(), Some(0));
    assert_eq!(world.read_at(&file, 9, 0).await.unwrap(), b"bytes");
    if Form::here().root {
        let revived = world.ring.linkat(&file, "", &world.dir, "again", AtFlags::EMPTY_PATH);
        fails(revived.await, Errno::NOENT);
    }
}

pub(crate) async fn statx_tells_the_same_of_everything(world: &World) {
    let tell = |stat: Stat| {
        let mode = stat.mode().map(|mode| mode.bits());
        (stat.file_type().unwrap(), mode.unwrap(), stat.nlink().unwrap(), stat.size().unwrap())
    };
    world.file("a", b"12345").await;
    world.symlink("none", "s").await.unwrap();
    world.mkfifo("f");
    let sticky = Mode::RWXU | Mode::SVTX;
    world.ring.mkdirat(&world.dir, "d", sticky).await.unwrap();
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    assert_eq!(tell(world.stat("a", NONE).await.unwrap()), (FileType::Regular, 0o700, 1, 5));
    assert_eq!(tell(world.stat("s", nofollow).await.unwrap()), (FileType::Symlink, 0o777, 1, 4));
    assert_eq!(tell(world.stat("f", NONE).await.unwrap()), (FileType::Fifo, 0o644, 1, 0));
    let dir = world.stat("d", NONE).await.unwrap();
    assert_eq!((dir.file_type(), dir.mode()), (Some(FileType::Directory), Some(sticky)));
    if Form::here().ext4 {
        assert_eq!((dir.nlink(), dir.size()), (Some(2), Some(4096)));
    }
    fails(world.stat("s", NONE).await, Errno::NOENT);
    fails(world.stat("a", AtFlags::REMOVEDIR).await, Errno::INVAL);
    let all = StatxFlags::from_bits_retain(1 << 31);
    fails(world.ring.statx(&world.dir, "a", NONE, all).await, Errno::INVAL);
    let (input, output) = world.pipe();
    for end in [&input, &output] {
        assert_eq!(tell(world.stat_of(end).await.unwrap()), (FileType::Fifo, 0o600, 1, 0));
    }
    let (one, _other) = world.socket_pair();
    assert_eq!(tell(world.stat_of(&one).await.unwrap()), (FileType::Socket, 0o777, 1, 0));
}
