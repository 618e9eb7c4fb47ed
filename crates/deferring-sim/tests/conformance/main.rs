//! Three kernels behind one ring, and the same is asked of each: io_uring, the pool, the simulated
//! one; and of io_uring where small calls are made by who queues them.
//!
//! `stories/`: what is known of the answers. `script/`: ops drawn by lot, whose answers are held
//! against one another. `worlds.rs`: the kernels. Where the system refuses io_uring, its rows are
//! skipped, and say so. docs/kernel.md has what cannot be the same. Not: faults (`machine.rs`).
//!
//! More scripts: `cargo xtask conformance --seeds N`.

mod script;
mod stories;
mod worlds;

macro_rules! told_on {
    ($kernel:ident, $module:ident, $($group:ident::$name:ident)*) => {
        mod $module {
            use crate::worlds::{Kernel, tell};

            $(#[test]
            fn $name() {
                tell(Kernel::$kernel, crate::stories::$group::$name);
            })*
        }
    };
}

macro_rules! stories {
    ($($group:ident::$name:ident)*) => {
        told_on!(IoUring, io_uring, $($group::$name)*);
        told_on!(Callers, callers, $($group::$name)*);
        told_on!(Pool, pool, $($group::$name)*);
        told_on!(Sim, sim, $($group::$name)*);
    };
}

stories! {
    files::bytes_come_back_from_where_they_were_put
    files::the_position_moves_with_what_asks_for_it
    files::several_buffers_are_one_transfer
    files::what_is_past_the_end_is_nothing_and_what_is_between_is_zeros
    files::an_append_goes_to_the_end
    files::offsets_and_lengths_that_are_none
    files::a_file_has_the_length_it_is_given
    files::room_is_taken_and_holes_are_made
    files::syncs_and_advice
    files::what_is_closed_cannot_be_used
    names::open_makes_empties_and_refuses
    names::open_flags_that_do_not_go_together
    names::paths_that_lead_nowhere
    names::a_walk_can_be_confined
    names::directories_are_made_and_removed
    names::renames_replace_refuse_and_exchange
    names::links_and_what_they_stand_for
    names::statx_tells_the_same_of_everything
    streams::a_pipe_gives_what_was_written_and_then_its_end
    streams::a_pipe_without_readers_breaks
    streams::a_full_pipe_takes_a_part_and_then_the_rest
    streams::sockets_go_both_ways
    streams::messages_go_by_sockets_and_nothing_else
    streams::an_end_that_closes_ends_those_who_wait
    streams::polls_tell_what_is_ready
    streams::polls_can_be_changed_and_removed
    streams::fifos_wait_for_each_other
    waits::times_pass
    waits::times_can_be_changed_and_removed
    waits::a_cancel_ends_what_waits
    waits::a_cancel_of_what_has_not_begun_or_is_over
    waits::a_deadline_gives_up
    waits::dropped_handles_leave_nothing_behind
    waits::what_no_kernel_knows_is_refused
}
