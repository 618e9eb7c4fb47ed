//! Scripts of ops by lot, on io_uring, the pool and the simulated kernel, which have to answer alike.
//!
//! The scripts are `crates/deferring-sim/tests/conformance/script`; `cargo test` plays some, this as
//! many as are asked for. Not: what they do.

use crate::ci::run_cargo;

const LINE: &str = "cargo test --release --package deferring-sim --test conformance -- --nocapture";

const SEEDS_DEFAULT: u64 = 10_000;

pub(crate) struct Options {
    seeds: u64,
}

impl Options {
    pub(crate) fn parse(options: &[String]) -> Result<Self, String> {
        match options {
            [] => Ok(Self { seeds: SEEDS_DEFAULT }),
            [name, number] if name == "--seeds" => match number.parse() {
                Ok(seeds) => Ok(Self { seeds }),
                Err(_) => Err(format!("--seeds takes a number, not {number:?}")),
            },
            [other, ..] => Err(format!("conformance does not take {other:?}; --seeds N it does")),
        }
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    run_cargo(LINE, &[("DEFERRING_CONFORMANCE_SEEDS", &options.seeds.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(options: &[&str]) -> Option<u64> {
        let options: Vec<String> = options.iter().map(|&option| option.into()).collect();
        Options::parse(&options).ok().map(|options| options.seeds)
    }

    #[test]
    fn a_number_of_seeds_is_understood() {
        assert_eq!(seeds(&[]), Some(SEEDS_DEFAULT));
        assert_eq!(seeds(&["--seeds", "7"]), Some(7));
        for wrong in [&["--seeds"][..], &["--seeds", "many"], &["7"], &["--seeds", "7", "8"]] {
            assert_eq!(seeds(wrong), None);
        }
    }
}
