//! Which file system is mounted where, by name and by number.
//!
//! By the list of mounts, since asking a file system by `statfs(2)` asks its server. Mounts are
//! known by the number that is never used again, so that what was found once stays so. Not: files.

use super::Nature;
use crate::sync::Ordering;
use crate::sync::plain::{AtomicBool, Mutex};

/// File systems of disks that read without a thread.
const DISKS: [(&str, u32); 6] = [
    ("ext4", 0xef53),
    ("ext3", 0xef53),
    ("ext2", 0xef53),
    ("xfs", 0x5846_5342),
    ("btrfs", 0x9123_683e),
    ("f2fs", 0xf2f5_2010),
];

/// File systems in memory, which need a thread.
const MEMORIES: [(&str, u32); 5] = [
    ("tmpfs", 0x0102_1994),
    ("devtmpfs", 0x0102_1994),
    ("rootfs", 0x0102_1994),
    ("ramfs", 0x8584_58f6),
    ("hugetlbfs", 0x9584_58f6),
];

/// Other local file systems, which need a thread.
const LOCALS: [(&str, u32); 23] = [
    ("overlay", 0x794c_7630),
    ("proc", 0x9fa0),
    ("sysfs", 0x6265_6572),
    ("devpts", 0x1cd1),
    ("debugfs", 0x6462_6720),
    ("tracefs", 0x7472_6163),
    ("cgroup", 0x0027_e0eb),
    ("cgroup2", 0x6367_7270),
    ("bpf", 0xcafe_4a11),
    ("securityfs", 0x7363_6673),
    ("configfs", 0x6265_6570),
    ("efivarfs", 0xde5e_81e4),
    ("iso9660", 0x9660),
    ("udf", 0x1501_3346),
    ("vfat", 0x4d44),
    ("msdos", 0x4d44),
    ("exfat", 0x2011_bab0),
    ("squashfs", 0x7371_7368),
    ("erofs", 0xe0f5_e1e2),
    ("zfs", 0x2fc1_2fc1),
    ("bcachefs", 0xca45_1a4e),
    ("mqueue", 0x1980_0202),
    ("pstore", 0x6165_676c),
];

/// Of the others, those that ask their server no more if all is asked of a file than if its type
/// is, as long as `STATX_DONT_SYNC` is. (SMB waits for what is being written, if asked for a
/// length or a time.) What begins with `fuse.` is one of them.
const OBEDIENT: [&str; 14] = [
    "9p",
    "afs",
    "autofs",
    "binfmt_misc",
    "ceph",
    "fuse",
    "fuseblk",
    "fusectl",
    "nfs",
    "nfs4",
    "nsfs",
    "rpc_pipefs",
    "selinuxfs",
    "virtiofs",
];

/// By what `statfs(2)` says.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Magic numbers have 32 bits.
pub(super) fn by_magic(magic: impl Into<i64>) -> Nature {
    let magic = magic.into() as u32;
    by(|&(_, number)| number == magic)
}

fn by_name(name: &str) -> Nature {
    by(|&(each, _)| each == name)
}

fn by(is_it: impl Fn(&(&str, u32)) -> bool) -> Nature {
    if DISKS.iter().any(&is_it) {
        Nature::Disk
    } else if MEMORIES.iter().any(&is_it) {
        Nature::Memory
    } else if LOCALS.iter().any(&is_it) {
        Nature::Local
    } else {
        Nature::Remote
    }
}

/// A mount that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// What files of it are.
    pub(super) nature: Nature,
    /// What it is called in the list of mounts, for as long as it is one.
    pub(super) number: u64,
}

/// By their unique numbers. At most so many are kept.
static KNOWN: Mutex<Vec<(u64, Mount)>> = Mutex::new(Vec::new());
const KNOWN_MAX: usize = 256;

/// The list was read, and all that were in it are obedient.
static OBEY: AtomicBool = AtomicBool::new(false);

/// Whether of any file all may be asked, with `STATX_DONT_SYNC`, before it is known where it is.
/// As of when a mount was last met that was new to us; not where mounts have no unique numbers.
pub(super) fn obey() -> bool {
    OBEY.load(Ordering::Relaxed)
}

/// The mount with this unique number. `number` gives its number in the list of mounts, for one that
/// is new to us. What is mounted nowhere that we see (detached, in another namespace, the kernel's
/// own) is taken for remote. `None` if there is no list.
pub(super) fn mount(unique: u64, number: impl FnOnce() -> Option<u64>) -> Option<Mount> {
    let known = KNOWN.lock().iter().find(|(id, _)| *id == unique).map(|(_, mount)| *mount);
    if known.is_some() {
        return known;
    }
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let number = number()?;
    let nature = file_system(&mounts, number).map_or(Nature::Remote, by_name);
    let found = Mount { nature, number };
    OBEY.store(all_obey(&mounts), Ordering::Relaxed);
    let mut known = KNOWN.lock();
    if known.len() == KNOWN_MAX {
        known.clear();
    }
    known.push((unique, found));
    Some(found)
}

/// The name of a mount's file system.
fn file_system(mounts: &[u8], number: u64) -> Option<&str> {
    let number = format!("{number} ");
    let mut lines = mounts.split(|&byte| byte == b'\n');
    name(lines.find(|line| line.starts_with(number.as_bytes()))?)
}

/// Whether all file systems that are mounted are known to ask nobody more than they must.
fn all_obey(mounts: &[u8]) -> bool {
    let obeys = |name: &str| {
        by_name(name) != Nature::Remote || OBEDIENT.contains(&name) || name.starts_with("fuse.")
    };
    let mut lines = mounts.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.all(|line| name(line).is_some_and(obeys))
}

/// The file system of a line of the list, which is `36 35 98:0 / /mnt rw - ext4 /dev/sda rw`, with
/// any number of words before the dash. Paths may be any bytes.
fn name(line: &[u8]) -> Option<&str> {
    let dash = line.windows(3).position(|part| part == b" - ")?;
    let name = line[dash + 3..].split(|&byte| byte == b' ').next()?;
    std::str::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_known_by_name_and_by_number() {
        assert_eq!([by_name("ext4"), by_magic(0xef53)], [Nature::Disk; 2]);
        assert_eq!([by_name("tmpfs"), by_magic(0x0102_1994)], [Nature::Memory; 2]);
        assert_eq!([by_name("overlay"), by_magic(0x794c_7630)], [Nature::Local; 2]);
        assert_eq!([by_name("fuse.sshfs"), by_magic(0x6573_5546)], [Nature::Remote; 2]);
        assert_eq!([by_name("nfs4"), by_magic(0x6969)], [Nature::Remote; 2]);
    }

    #[test]
    fn a_mount_is_found_in_the_list() {
        let mounts = "36 35 98:0 / / rw,noatime master:1 - ext4 /dev/root rw\n\
                      361 35 0:5 / /a\\040b rw - fuse.sshfs host: rw\n";
        assert_eq!(file_system(mounts.as_bytes(), 36), Some("ext4"));
        assert_eq!(file_system(mounts.as_bytes(), 361), Some("fuse.sshfs"));
        assert_eq!(file_system(mounts.as_bytes(), 3), None);
    }
    #[test]
    fn one_mount_that_does_not_obey_is_enough() {
        let line = |name: &str| format!("36 35 98:0 / /mnt rw shared:1 - {name} what rw\n");
        let list = |names: &[&str]| names.iter().map(|name| line(name)).collect::<String>();
        let obedient = list(&["ext4", "tmpfs", "overlay", "nfs4", "fuse.sshfs", "nsfs"]);
        assert!(all_obey(obedient.as_bytes()));
        for name in ["cifs", "smb3", "pvfs2", "ecryptfs", "fuses", "unheard-of"] {
            assert!(!all_obey((obedient.clone() + &line(name)).as_bytes()), "{name}");
        }
        assert!(!all_obey(b"36 35 98:0 / /mnt rw\n"), "no line of a list");
    }
}
