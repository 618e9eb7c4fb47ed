//! The machine that it was measured on, by name.
//!
//! What cannot be found out is said to be unknown; nothing here fails.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// One line for each thing that figures depend on.
pub(super) fn describe(dir: &Path) -> Vec<(&'static str, String)> {
    let uname = rustix::system::uname();
    let kernel = [uname.sysname(), uname.release(), uname.machine()];
    let kernel: Vec<_> = kernel.iter().map(|part| part.to_string_lossy()).collect();
    vec![
        ("processor", processor().unwrap_or_else(unknown)),
        ("memory", memory().unwrap_or_else(unknown)),
        ("kernel", kernel.join(" ")),
        ("file system", file_system(dir).unwrap_or_else(unknown)),
        ("compiler", said("rustc", &["--version"]).unwrap_or_else(unknown)),
        ("commit", commit().unwrap_or_else(unknown)),
        ("load before", load().unwrap_or_else(unknown)),
        ("day", day(SystemTime::now())),
    ]
}

fn unknown() -> String {
    "unknown".into()
}

fn processor() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = info.lines().find(|line| line.starts_with("model name"))?;
    let cores = std::thread::available_parallelism().ok()?;
    Some(format!("{}, {cores} of them", model.split(':').nth(1)?.trim()))
}

fn memory() -> Option<String> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = info.lines().next()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(format!("{} GiB", kib >> 20))
}

/// The last mount whose directory the path lies under: the longest.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, at, kind) = (words.next()?, words.next()?, words.next()?);
        dir.starts_with(at).then(|| (at.len(), format!("{kind} on {device}")))
    });
    mounts.max_by_key(|mount| mount.0).map(|mount| mount.1)
}

fn load() -> Option<String> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    load.split(' ').next().map(|load| format!("{load} (the mean of the last minute)"))
}

fn commit() -> Option<String> {
    let commit = said("git", &["rev-parse", "--short", "HEAD"])?;
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    Some(match changed {
        Some(changed) if !changed.is_empty() => format!("{commit}, with changes"),
        _ => commit,
    })
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// As 2026-11-23, in UTC.
fn day(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = i64::try_from(seconds / 86_400).expect("days are few");
    // Howard Hinnant's civil_from_days: eras of 400 years that begin on the first of March.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let at = |seconds| day(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01");
        assert_eq!(at(951_782_400), "2000-02-29");
        assert_eq!(at(1_795_392_000), "2026-11-23");
    }

    #[test]
    fn this_machine_has_a_name() {
        let said = describe(&std::env::temp_dir());
        let kernel = said.iter().find(|line| line.0 == "kernel").unwrap();
        assert!(kernel.1.starts_with("Linux "), "{kernel:?}");
    }
}
