//! Pipes: bytes come in order, each once, and end when the writer is gone.

use deferring::BufResult;
use futures_util::future::join;

use crate::buffer::Watched;
use crate::stage::Stage;

/// Of how many transfers a stream is, unless they are short: others wait for as many steps, and how
/// many those are is bounded (`oracle.rs`).
const TRANSFERS: usize = 500;

/// The byte at a place of the stream.
fn byte(at: usize) -> u8 {
    u8::try_from(at % 251).expect("below 251")
}

pub(crate) async fn play(mut stage: Stage) {
    let (input, output) = stage.pipe();
    let total = stage.rng.usize(1..200_000);
    let (most, least) = (stage.rng.usize(2..70_000), stage.rng.usize(1..70_000));
    let total = total.min(most.min(least) * TRANSFERS);
    let (ring, oracle) = (stage.ring.clone(), stage.oracle.clone());
    let closes = stage.rng.bool();
    let write = async {
        let mut sent = 0;
        while sent < total {
            let part = (sent..total.min(sent + most)).map(byte).collect();
            let handle = ring.write(&output, Watched::new(&oracle, part), 0);
            let Some(BufResult(n, _)) = oracle.result(&ring, "a write to a pipe", handle).await
            else {
                panic!("writes to pipes do not hang");
            };
            sent += n.expect("a reader is there");
        }
        if closes {
            ring.close(&output).await.expect("a close");
        }
        drop(output);
    };
    let read = async {
        let mut got = 0;
        loop {
            let handle = ring.read(&input, Watched::blank(&oracle, least), 0);
            let Some(BufResult(n, buffer)) =
                oracle.result(&ring, "a read from a pipe", handle).await
            else {
                panic!("reads from pipes do not hang");
            };
            let n = match n {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) => {
                    assert!(stage.fails, "{error}");
                    continue;
                }
            };
            let expected = (got..got + n).map(byte);
            assert!(buffer.read(n).iter().copied().eq(expected), "the stream is not in order");
            got += n;
        }
        assert_eq!(got, total, "bytes are lost");
    };
    join(write, read).await;
}
