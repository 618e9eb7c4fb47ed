//! A record of the log: a checksum, two lengths, a key, a value.
//!
//! Not: where records are (`store.rs`).

use std::collections::BTreeMap;

use crate::bug::Bug;

pub(crate) type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// The checksum of the rest, the key's length, the value's: 32 bits each.
const HEADER: usize = 12;

/// Appends a record.
pub(crate) fn encode(log: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let start = log.len();
    let length =
        |bytes: &[u8]| u32::try_from(bytes.len()).expect("a record is small").to_le_bytes();
    log.extend([0; 4]);
    log.extend(length(key));
    log.extend(length(value));
    log.extend(key);
    log.extend(value);
    let crc = crc32fast::hash(&log[start + 4..]);
    log[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// What the records of a log come to, and where the last good one ends.
pub(crate) fn replay(log: &[u8], bug: Option<Bug>) -> (Map, usize) {
    let (mut map, mut end) = (Map::new(), 0);
    while let Some((key, value)) = decode(&log[end..], bug) {
        end += HEADER + key.len() + value.len();
        map.insert(key.to_vec(), value.to_vec());
    }
    (map, end)
}

/// The record at the start, if it is whole. A key is not empty, so zeros are no record.
fn decode(log: &[u8], bug: Option<Bug>) -> Option<(&[u8], &[u8])> {
    let number = |at: usize| log.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let (crc, key, value) = (number(0)?, number(4)? as usize, number(8)? as usize);
    let checked = log.get(4..HEADER.checked_add(key)?.checked_add(value)?)?;
    if key == 0 || bug != Some(Bug::TrustsLength) && crc32fast::hash(checked) != crc {
        return None;
    }
    Some(checked[HEADER - 4..].split_at(key))
}
