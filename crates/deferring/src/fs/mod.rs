//! Files by convenience.
/// A file.
#[derive(Debug)]
pub struct File;
impl File {
    /// x
    pub fn set_len(&self) {}
}
