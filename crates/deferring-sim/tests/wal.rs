//! The store of `examples/wal` loses nothing, and each bug that it may have is found.
//!
//! docs/simulation.md tells the story.

#[path = "../examples/wal/bug.rs"]
mod bug;
#[path = "../examples/wal/ledger.rs"]
mod ledger;
#[path = "../examples/wal/record.rs"]
mod record;
#[path = "../examples/wal/store.rs"]
mod store;
#[path = "../examples/wal/story.rs"]
mod story;

use bug::Bug;
use deferring_sim::{Sim, check};
use ledger::Ledger;
use record::Map;

/// So many seeds find each bug.
const SEEDS: u64 = 300;

#[test]
fn a_store_without_a_bug_keeps_its_word() {
    check(0..SEEDS, |sim| {
        let told = story::story(&sim, None);
        assert!(told.is_ok(), "{told:?}");
        assert!(sim.struck() > 10, "{sim:?}");
    });
}

#[test]
fn each_bug_is_found_by_a_seed() {
    for bug in Bug::ALL {
        let found = (0..SEEDS).find_map(|seed| {
            let wrong = story::story(&Sim::new(seed), Some(bug)).err()?;
            Some((seed, wrong))
        });
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{bug}: no seed finds it"));
        println!("{bug}: seed {seed}: {wrong}");
        // The same seed finds nothing when the bug is gone.
        assert_eq!(story::story(&Sim::new(seed), None), Ok(()), "{bug}, seed {seed}");
    }
}

#[test]
fn a_seed_tells_the_same_story_whatever_else_the_process_does() {
    let told = |seed: u64| {
        let sim = Sim::new(seed).traced();
        story::story(&sim, None).unwrap();
        (sim.trace(), sim.digest())
    };
    let traces: Vec<_> = (0..10).map(told).collect();
    // Other numbers for descriptors, other addresses, other threads.
    let _files: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let threads: Vec<_> =
        (0..4).map(|_| std::thread::spawn(move || (0..10).map(told).collect::<Vec<_>>())).collect();
    for thread in threads {
        assert!(thread.join().unwrap() == traces);
    }
}

#[test]
fn a_ledger_takes_what_is_due_and_what_may_be_and_nothing_else() {
    let mut ledger = Ledger::of(Map::new());
    let puts = ["a", "b", "a"].map(|key| ledger.ask(key, 20));
    ledger.acknowledge(&puts[0]);
    let state = |which: &[usize]| -> Map {
        which.iter().map(|&n| (puts[n].key.clone(), puts[n].value.clone())).collect()
    };
    let told = |which: &[usize]| ledger.clone().reopen(&state(which));
    assert_eq!(told(&[]), Err("a is to hold put 1, and holds nothing".into()));
    for may_be in [&[0][..], &[0, 1], &[0, 1, 2]] {
        assert_eq!(told(may_be), Ok(()));
    }
    assert_eq!(told(&[2]), Err("a put is there without one that came before it".into()));
    let torn = Map::from([(b"a".to_vec(), vec![0; 20])]);
    let wrong = ledger.clone().reopen(&torn);
    assert_eq!(wrong, Err("a is to hold put 1, and holds what nobody has put".into()));
}
