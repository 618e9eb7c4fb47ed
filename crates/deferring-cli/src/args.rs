//! What the command line takes. The help text is made of the comments here.
//!
//! Not: what is done with it (`cp/`).

use std::path::PathBuf;

/// Works on files through io_uring.
#[derive(Debug, clap::Parser)]
#[command(name = "deferring", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Cp(Cp),
}

/// Copies files and trees, many files and many blocks at a time from one thread.
///
/// A file appears under its name only when it is whole, and replaces a file or symbolic link of
/// that name, but no device, fifo, socket or directory. Hard links among the copied files stay
/// links, holes stay holes. Special files (fifos, sockets, devices) are skipped with a word.
///
/// The last line says how much was copied and what it took. The bytes are those written: holes are
/// not counted.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS, args_override_self = true)]
pub(crate) struct Cp {
    /// Copy directories with all that is in them; do not follow symbolic links
    #[arg(short, long, visible_short_alias = 'R')]
    pub(crate) recursive: bool,

    /// Keep mode, times, and, where permitted, owner and group
    #[arg(short, long)]
    pub(crate) preserve: bool,

    /// How many files to work on at a time
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: u16,

    /// For tests, and so not in the help: how many files with hard links to come to keep in memory
    #[arg(long, value_name = "N", hide = true)]
    pub(crate) links_in_memory: Option<usize>,

    /// Write the last line as a JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// What to copy
    #[arg(value_name = "SRC", required = true)]
    pub(crate) sources: Vec<PathBuf>,

    /// The copy's name, or an existing directory to copy into
    #[arg(value_name = "DST", required = true)]
    pub(crate) destination: PathBuf,
}

const EXIT_STATUS: &str = "\
Exit status: 0 if all was copied; 1 if something could not be, and the rest was; 2 if the request \
was refused and nothing was copied; 130 after Ctrl-C, 143 after SIGTERM.";
