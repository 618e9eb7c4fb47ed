//! What programs do, each part for itself. They share the ring, and nothing else.

pub(crate) mod cancels;
pub(crate) mod closes;
pub(crate) mod fifos;
pub(crate) mod files;
pub(crate) mod names;
pub(crate) mod pipes;
pub(crate) mod times;
