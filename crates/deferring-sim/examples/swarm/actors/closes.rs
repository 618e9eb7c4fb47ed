//! Closes: they wait for the ops of their descriptor, and nothing comes after.

use deferring::BufResult;
use deferring::fs::File;
use futures_util::future::join;

use crate::buffer::Watched;
use crate::stage::Stage;

pub(crate) async fn play(mut stage: Stage) {
    let ring = stage.ring.clone();
    for _ in 0..stage.rng.usize(1..8) {
        let opened = File::create(&ring, stage.path("closed"));
        let Some(opened) = stage.oracle.result(&ring, "an open", opened).await else { return };
        let fd = opened.expect("an open").fd().clone();
        let writes: Vec<_> = (0..stage.rng.u64(1..20))
            .map(|n| ring.write(&fd, Watched::new(&stage.oracle, vec![1; 100]), n * 100))
            .collect();
        let close = stage.oracle.result(&ring, "a close", ring.close(&fd));
        let write = async {
            for write in writes {
                let written = stage.oracle.result(&ring, "a write", write).await;
                if let Some(BufResult(n, _)) = written {
                    assert!(n.is_ok_and(|n| n > 0), "P2: it was queued before the close");
                }
            }
        };
        let (closed, ()) = join(close, write).await;
        if let Some(closed) = closed {
            closed.expect("a close");
        }
        let late = ring.write(&fd, Watched::new(&stage.oracle, vec![1; 10]), 0);
        let late = stage.oracle.result(&ring, "a late write", late).await;
        let refused = late.is_some_and(|BufResult(n, _)| {
            n.is_err_and(|error| error.raw_os_error() == Some(libc::EBADF))
        });
        assert!(refused, "P2: a closed descriptor is used");
    }
}
