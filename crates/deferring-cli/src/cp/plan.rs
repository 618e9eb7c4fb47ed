//! What goes where, and what is refused. Nothing is copied if anything is refused.
//!
//! Looks at the arguments only, not into directories: that is `walk.rs`.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use deferring::{AtFlags, CWD, FileType, Ring, Stat};
use rustix::io::Errno;

use super::attributes::STAT_MASK;
use super::directory::identity;
use super::item::Item;
use super::report::special;
use super::step::{Failure, Shown, errno};
use crate::args;

/// The arguments as things to be copied, or all that is wrong with them.
pub(super) async fn plan(ring: &Ring, args: &args::Cp) -> Result<Vec<Item>, Vec<String>> {
    let into = match look(ring, &args.destination, true).await {
        Ok(stat) => stat.is_some_and(|stat| is_dir(&stat)),
        Err(failure) => return Err(vec![failure.to_string()]),
    };
    if args.sources.len() > 1 && !into {
        let what = "several sources need a directory to be copied into";
        return Err(vec![format!("{} is not a directory: {what}", Shown(&args.destination))]);
    }
    let mut roots = Vec::new();
    let mut refusals = Vec::new();
    let mut targets = HashSet::new();
    for source in &args.sources {
        let to = if into { target(source, &args.destination) } else { args.destination.clone() };
        let checked = match check(ring, source, &to, args.recursive).await {
            Ok(_) if !targets.insert(to.clone()) => {
                Err(format!("more than one source would become {}", Shown(&to)))
            }
            checked => checked,
        };
        match checked {
            Ok(kind) => {
                let (from, to) = (source.as_path().into(), to.as_path().into());
                roots.push(Item { parent: None, from, to, kind });
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    if refusals.is_empty() { Ok(roots) } else { Err(refusals) }
}

/// What a source is called inside a directory; `.` and `..` are not called, they are poured.
fn target(source: &Path, directory: &Path) -> PathBuf {
    let bytes = source.as_os_str().as_bytes();
    let mut parts = bytes.split(|byte| *byte == b'/').rev();
    match parts.find(|part| !part.is_empty()) {
        None | Some(b"." | b"..") => directory.to_owned(),
        Some(name) => directory.join(OsStr::from_bytes(name)),
    }
}

/// The kind of thing that the source is, or why it is not copied.
async fn check(ring: &Ring, from: &Path, to: &Path, recursive: bool) -> Result<FileType, String> {
    let look = async |path, follow| look(ring, path, follow).await.map_err(|f| f.to_string());
    let missing = || Failure::new("statx", from.to_owned(), Errno::NOENT).to_string();
    let itself = look(from, !recursive).await?.ok_or_else(missing)?;
    let led_to = if recursive { look(from, true).await? } else { Some(itself) };
    if is_dir(&itself) && !recursive {
        return Err(format!("{} is a directory: -r copies directories", Shown(from)));
    }
    let there = [look(to, false).await?, look(to, true).await?];
    let ours = [Some(itself), led_to];
    let same = |a: &Stat, b: &Stat| identity(a) == identity(b);
    if there.iter().flatten().any(|there| ours.iter().flatten().any(|ours| same(there, ours))) {
        return Err(format!("{} and {} are the same file", Shown(from), Shown(to)));
    }
    refuse_to_replace(&itself, from, to, &there)?;
    if is_dir(&itself) {
        if is_inside(ring, to, &itself).await? {
            return Err(format!(
                "{} is a directory, and {} is inside it: it cannot be copied into itself",
                Shown(from),
                Shown(to)
            ));
        }
    } else if to.as_os_str().as_bytes().ends_with(b"/") {
        return Err(format!("{} is not a directory", Shown(to)));
    }
    Ok(itself.file_type().unwrap_or(FileType::Unknown))
}

/// A copy takes the place of a file or a link. It does not take that of a device, a directory, or
/// anything that a directory would have to be merged into.
fn refuse_to_replace(
    itself: &Stat,
    from: &Path,
    to: &Path,
    there: &[Option<Stat>; 2],
) -> Result<(), String> {
    let kinds = || there.iter().flatten().filter_map(Stat::file_type);
    if let Some(special) = kinds().find_map(special) {
        let to = Shown(to);
        return Err(format!("{to} is {special}: it is not replaced; remove it, or name another"));
    }
    let (from, to) = (Shown(from), Shown(to));
    match (is_dir(itself), there.iter().flatten().next_back()) {
        (true, Some(other)) if !is_dir(other) => {
            Err(format!("{from} is a directory, and {to} is none: it is not replaced"))
        }
        (false, Some(other)) if is_dir(other) => {
            Err(format!("{to} is a directory, and {from} is none: it is not replaced"))
        }
        (true | false, Some(_) | None) => Ok(()),
    }
}

/// Whether a path, once it is there, lies in this directory: by the directories above it as they
/// are, not as they are called.
async fn is_inside(ring: &Ring, path: &Path, directory: &Stat) -> Result<bool, String> {
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    // Plain calls: there is no ring op for `realpath(3)`, and a directory may be renamed anyway.
    let there = absolute.ancestors().find_map(|above| above.canonicalize().ok());
    for above in there.iter().flat_map(|path| path.ancestors()) {
        let stat = look(ring, above, true).await.map_err(|failure| failure.to_string())?;
        if stat.is_some_and(|stat| identity(&stat) == identity(directory)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// None if there is nothing of that name.
async fn look(ring: &Ring, path: &Path, follow: bool) -> Result<Option<Stat>, Failure> {
    let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let stat: io::Result<Stat> = ring.statx(CWD, path, flags, STAT_MASK).await;
    match stat {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if errno(&error) == Some(Errno::NOENT) => Ok(None),
        Err(error) => Err(Failure::new("statx", path.to_owned(), error)),
    }
}

fn is_dir(stat: &Stat) -> bool {
    stat.file_type().is_some_and(FileType::is_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_keeps_its_name_inside_a_directory() {
        for (source, expected) in [
            ("a", "dst/a"),
            ("x/a", "dst/a"),
            ("x/a//", "dst/a"),
            (".", "dst"),
            ("x/.", "dst"),
            ("x/./", "dst"),
            ("..", "dst"),
            ("/", "dst"),
            ("-a", "dst/-a"),
        ] {
            assert_eq!(
                target(Path::new(source), Path::new("dst")),
                Path::new(expected),
                "{source}"
            );
        }
    }
}
