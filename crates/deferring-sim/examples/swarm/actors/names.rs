//! Names: crowds of ops that need a worker, and what they leave.

use deferring::{AtFlags, CWD, Mode, RenameFlags, StatxFlags};
use futures_util::future::join_all;

use crate::stage::Stage;

pub(crate) async fn play(mut stage: Stage) {
    let ring = stage.ring.clone();
    let (crowd, oracle) = (stage.rng.usize(1..100), stage.oracle.clone());
    // Nothing but what is said here may fail, or have been done.
    let fine = |what: &str, result: Option<std::io::Result<()>>| match result {
        Some(Ok(())) => true,
        Some(Err(error)) => panic!("{what}: {error}"),
        None => false,
    };
    let made = join_all((0..crowd).map(|n| {
        let made = ring.mkdirat(CWD, stage.path(&format!("d{n}")), Mode::RWXU);
        oracle.result(&ring, "a mkdir", made)
    }));
    let made: Vec<bool> = made.await.into_iter().map(|made| fine("a mkdir", made)).collect();
    let looks = join_all((0..crowd).map(|n| {
        let path = stage.path(&format!("d{n}"));
        let look = ring.statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS);
        oracle.result(&ring, "a statx", look)
    }));
    for (look, made) in looks.await.into_iter().zip(&made) {
        let Some(look) = look else { continue };
        let seen = look.as_ref().is_ok_and(|stat| stat.file_type().is_some_and(|it| it.is_dir()));
        assert!(seen || !made || stage.fails, "{look:?}");
    }
    let moves = join_all((0..crowd).filter(|&n| made[n]).map(|n| {
        let (from, to) = (stage.path(&format!("d{n}")), stage.path(&format!("e{n}")));
        let renamed = ring.renameat2(CWD, from, CWD, to, RenameFlags::NOREPLACE);
        oracle.result(&ring, "a rename", renamed)
    }));
    let moved: Vec<bool> = moves.await.into_iter().map(|moved| fine("a rename", moved)).collect();
    if made.iter().chain(&moved).all(|&done| done) {
        let names = stage.sim.list(stage.path("")).expect("a directory");
        let moved = names.iter().filter(|name| name.to_string_lossy().starts_with('e')).count();
        assert_eq!((names.len(), moved), (crowd, crowd), "{names:?}");
    }
}
