//! What the stories share: the program, places, mounts, and a look at two trees.

#![allow(clippy::print_stderr)] // Skips, and mounts that stay, are for the reader of the test run.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than anything here takes, shorter than anybody's patience.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_deferring");

/// Somebody who owns nothing here.
pub(crate) const NOBODY: u32 = 65534;

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that a story was not told; past the harness, which would keep it to itself.
pub(crate) fn skipped(needs: &str) {
    let _ = writeln!(io::stderr(), "skipped: needs {needs}");
}

/// What serves rings here, as the program says it.
pub(crate) fn backend() -> String {
    let ring = deferring::Ring::builder().build().expect("a ring, on one kernel or the other");
    ring.backend().kind().to_string()
}

/// A place on a disk, which anybody may enter.
pub(crate) fn place() -> TempDir {
    open_to_all(TempDir::new().expect("a temporary directory"))
}

/// A place for many small files: in memory if there is such a place. Removing many files from a
/// disk makes the next who create some slow (ext4).
pub(crate) fn place_for_many() -> TempDir {
    TempDir::new_in("/dev/shm").map_or_else(|_| place(), open_to_all)
}

fn open_to_all(dir: TempDir) -> TempDir {
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

pub(crate) fn cp<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("cp").args(arguments);
    command
}

/// As somebody without privileges, whoever runs the tests. The program is copied to where all can
/// reach it.
pub(crate) fn cp_as_nobody<I: AsRef<OsStr>>(
    place: &Path,
    arguments: impl IntoIterator<Item = I>,
) -> Command {
    if !is_root() {
        return cp(arguments);
    }
    let program = place.join("deferring-for-nobody");
    // By another process: a descriptor of this one, open for writing, would be inherited by what other
    // tests start meanwhile, and nobody may run the program while it is (`ETXTBSY`).
    let copied = Command::new("cp").arg(PROGRAM).arg(&program).status().expect("cp(1) starts");
    assert!(copied.success(), "cp(1) does not copy the program");
    let mut command = Command::new(program);
    command.arg("cp").args(arguments).uid(NOBODY).gid(NOBODY);
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("messages are UTF-8");
        Self { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ended {
    /// All was copied, and nothing had to be said but the last line.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert_eq!((self.status, self.err.as_str()), (Some(0), ""), "{self:?}");
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn badly(self, status: i32, messages: &[&str]) -> Self {
        assert_eq!(self.status, Some(status), "{self:?}");
        for message in messages {
            assert!(self.err.contains(message), "{message:?} is not in {self:?}");
        }
        assert!(self.err.lines().all(|line| line.starts_with("deferring: cp: ")), "{self:?}");
        self
    }
}

pub(crate) fn run(command: &mut Command) -> Ended {
    wait(start(command))
}

pub(crate) fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("starts")
}

/// Waits for the end, but not for ever.
pub(crate) fn wait(mut child: Child) -> Ended {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err) = (read_in_thread(out.expect("piped")), read_in_thread(err.expect("piped")));
    let end = Instant::now() + BOUND;
    let status = loop {
        if let Some(status) = child.try_wait().expect("waits") {
            break status;
        }
        if Instant::now() > end {
            child.kill().expect("kills");
            panic!("not done in {BOUND:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let (stdout, stderr) = (out.join().expect("reads"), err.join().expect("reads"));
    Output { status, stdout, stderr }.into()
}

/// The most memory that a process had, in KiB.
pub(crate) fn peak_of(child: Child) -> (u64, Ended) {
    let status = format!("/proc/{}/status", child.id());
    let waiter = std::thread::spawn(move || wait(child));
    let mut peak = 0;
    while !waiter.is_finished() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    }
    (peak, waiter.join().expect("waits"))
}

fn read_in_thread(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("reads");
        bytes
    })
}

/// Waits until a temporary file is in a directory: a copy is under way there.
pub(crate) fn wait_for_temporary_file(child: &mut Child, directory: &Path) {
    let end = Instant::now() + BOUND;
    while temporary_files(directory).is_empty() {
        assert!(Instant::now() < end, "no temporary file in {BOUND:?}");
        let ended = child.try_wait().expect("waits");
        assert!(ended.is_none(), "ended before a temporary file was seen: {ended:?}");
    }
}

/// The temporary files in a directory and below it.
pub(crate) fn temporary_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.map(|entry| entry.expect("lists")) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(temporary_files(&entry.path()));
        } else if entry.file_name().to_string_lossy().starts_with(".deferring-cp.") {
            found.push(entry.path());
        }
    }
    found
}

/// A file that takes long to copy: all of it has room on the disk, though nothing was written.
/// None if this place has no such files, or no room.
pub(crate) fn slow_file(path: &Path, len: u64) -> Option<()> {
    let file = fs::File::create(path).expect("creates");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len).ok()?;
    let is_dense = file.metadata().expect("stats").blocks() * 512 >= len;
    is_dense.then_some(())
}

/// A mount, undone by its own path.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// None if this is not ours to do.
    pub(crate) fn new<S: AsRef<OsStr>>(options: &[S], at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        let output = mount.args(options).arg(at).output().ok()?;
        output.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted: umount it", self.0.display());
        }
    }
}

/// What is compared of a tree: by path from its root, one line each.
pub(crate) type Look = BTreeMap<PathBuf, String>;

/// How closely to look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closely {
    /// Kinds, content, links of both kinds, and permissions less the umask.
    Plain,
    /// All permissions, owners, and times.
    Preserved,
}

pub(crate) fn look(root: &Path, closely: Closely) -> Look {
    let mut seen = Look::new();
    let mut names = BTreeMap::new();
    look_into(root, Path::new(""), closely, &mut seen, &mut names);
    // Hard links: who shares a file with whom.
    for group in names.into_values().filter(|group: &Vec<PathBuf>| group.len() > 1) {
        for name in &group {
            seen.get_mut(name).expect("seen").push_str(&format!(" one of {group:?}"));
        }
    }
    seen
}

fn look_into(
    root: &Path,
    path: &Path,
    closely: Closely,
    seen: &mut Look,
    names: &mut BTreeMap<(u64, u64), Vec<PathBuf>>,
) {
    let full = root.join(path);
    let stat = fs::symlink_metadata(&full).expect("stats");
    let kind = stat.file_type();
    let what = if kind.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(&full).expect("lists").map(Result::unwrap).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            look_into(root, &path.join(entry.file_name()), closely, seen, names);
        }
        "directory".to_owned()
    } else if kind.is_symlink() {
        names.entry((stat.dev(), stat.ino())).or_default().push(path.to_owned());
        format!("link to {:?}", fs::read_link(&full).expect("reads"))
    } else if kind.is_file() {
        names.entry((stat.dev(), stat.ino())).or_default().push(path.to_owned());
        format!("file of {} bytes, {:x}", stat.len(), digest(&full))
    } else {
        assert!(kind.is_fifo() || kind.is_socket() || kind.is_char_device());
        "special".to_owned()
    };
    seen.insert(path.to_owned(), what + &attributes(&stat, closely));
}

fn attributes(stat: &fs::Metadata, closely: Closely) -> String {
    let is_link = stat.file_type().is_symlink();
    match closely {
        Closely::Plain if is_link => String::new(),
        Closely::Plain => format!(" mode {:o}", stat.mode() & 0o777 & !umask()),
        Closely::Preserved => format!(
            " mode {:o} owner {}:{} modified {}.{:09}",
            stat.mode() & 0o7777,
            stat.uid(),
            stat.gid(),
            stat.mtime(),
            stat.mtime_nsec(),
        ),
    }
}

/// FNV-1a over the content, with holes passed over as one step each.
fn digest(path: &Path) -> u64 {
    let mut file = fs::File::open(path).expect("opens");
    let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
    let mut step = |byte: u8| digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut buf = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buf).expect("reads");
        match &buf[..n] {
            [] => return digest,
            zeros if zeros.iter().all(|byte| *byte == 0) => step(0),
            bytes => bytes.iter().for_each(|byte| step(*byte)),
        }
    }
}

/// That of this process, and so of the program.
pub(crate) fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:")).expect("a umask");
    u32::from_str_radix(line.trim(), 8).expect("octal")
}
