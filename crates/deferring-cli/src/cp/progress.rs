//! The bar of a terminal: bytes, files, rate, and the time left. Nothing anywhere else.
//!
//! Painted a few times a second by a timer of the ring's. What it measures against comes from
//! `count.rs`; until that is known it shows what has been done.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use deferring::{Ring, time};
use futures_util::future::{Either, select};
use indicatif::{BinaryBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};

use super::count::Count;
use super::report::{Progress, Report};

const PERIOD: Duration = Duration::from_millis(100);

/// What a file weighs besides its bytes, in bytes: about what it costs to make one.
const FILE_WEIGHT: u64 = 64 << 10;

pub(super) struct Bar {
    bar: ProgressBar,
    start: Instant,
}

impl Bar {
    /// None if standard error is no terminal.
    pub(super) fn on_terminal() -> Option<Self> {
        // Standard error is where it draws.
        let bar = ProgressBar::no_length();
        if bar.is_hidden() {
            return None;
        }
        bar.set_style(style("{spinner} {msg}"));
        Some(Self { bar, start: Instant::now() })
    }

    /// Makes room for a message.
    pub(super) fn step_aside(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn paint(&self, done: Progress, total: Option<Progress>) {
        if let (Some(total), None) = (total, self.bar.length()) {
            self.bar.set_style(style("{wide_bar} {percent:>3} %  {msg}"));
            self.bar.set_length(weight(total).max(1));
        }
        if self.bar.length().is_some() {
            self.bar.set_position(weight(done));
        }
        self.bar.set_message(text(done, total, self.start.elapsed()));
        self.bar.tick();
    }
}

/// Waits for the copying, and paints meanwhile.
pub(super) async fn paint_while(
    copying: Pin<&mut impl Future<Output = ()>>,
    ring: &Ring,
    report: &Report,
    count: Option<Count>,
) {
    let (Some(bar), Some(count)) = (report.bar(), count) else { return copying.await };
    let painting = std::pin::pin!(async {
        loop {
            bar.paint(report.progress(), count.total());
            // If the ring could not tell the time it could do nothing else either.
            let _ = time::sleep(ring, PERIOD).await;
        }
    });
    match select(copying, painting).await {
        Either::Left(((), _)) => {}
        Either::Right((never, _)) => never,
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("a template of ours");
    style.progress_chars("=> ")
}

fn weight(progress: Progress) -> u64 {
    progress.bytes.saturating_add(progress.files.saturating_mul(FILE_WEIGHT))
}

fn text(done: Progress, total: Option<Progress>, took: Duration) -> String {
    let rate = match took.as_millis() {
        0 => 0,
        millis => u64::try_from(u128::from(done.bytes) * 1000 / millis).unwrap_or(u64::MAX),
    };
    let (bytes, files) = (BinaryBytes(done.bytes), HumanCount(done.files));
    match total {
        None => format!("{bytes}, {files} files, {}/s", BinaryBytes(rate)),
        Some(total) => format!(
            "{bytes} of {}, {files} of {} files, {}/s, {} left",
            BinaryBytes(total.bytes),
            HumanCount(total.files),
            BinaryBytes(rate),
            HumanDuration(left(done, total, took)),
        ),
    }
}

/// As long again for each part as for those before.
fn left(done: Progress, total: Progress, took: Duration) -> Duration {
    let (done, total) = (weight(done), weight(total));
    let ahead = total.saturating_sub(done);
    let millis = took.as_millis() * u128::from(ahead) / u128::from(done.max(1));
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Progress = Progress { files: 100, bytes: 50 << 20 };
    const ALL: Progress = Progress { files: 200, bytes: 100 << 20 };
    const TOOK: Duration = Duration::from_secs(10);

    #[test]
    fn the_bar_says_bytes_files_rate_and_time_left() {
        let text = text(HALF, Some(ALL), TOOK);
        for part in ["50.00 MiB of 100.00 MiB", "100 of 200 files", "5.00 MiB/s", "10 seconds left"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn without_a_total_there_is_no_time_left() {
        assert_eq!(text(HALF, None, TOOK), "50.00 MiB, 100 files, 5.00 MiB/s");
    }

    #[test]
    fn empty_files_take_time_too() {
        let files = |files| Progress { files, bytes: 0 };
        assert_eq!(left(files(10), files(40), TOOK), 3 * TOOK);
    }

    #[test]
    fn a_tree_that_grew_and_one_not_begun_can_be_shown() {
        assert_eq!(left(ALL, HALF, TOOK), Duration::ZERO);
        let _ = text(Progress::default(), Some(ALL), Duration::ZERO);
        let _ = left(Progress::default(), Progress { files: u64::MAX, bytes: u64::MAX }, TOOK);
    }
}
