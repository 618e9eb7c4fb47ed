//! What a store was told, what it has promised, and whether it has kept that.

use std::collections::BTreeSet;
use std::fmt;

use crate::record::Map;

/// Puts, in the order in which they were asked for.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    /// What was there when the store was last opened.
    base: Map,
    /// What it was asked to put since.
    puts: Vec<(Vec<u8>, Vec<u8>)>,
    /// So many of them it has to have.
    acknowledged: usize,
    /// How many puts there ever were.
    count: usize,
}

/// A put that was asked for.
pub(crate) struct Put {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    place: usize,
    number: usize,
}

impl fmt::Display for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "put {} of {}", self.number, String::from_utf8_lossy(&self.key))
    }
}

impl Ledger {
    /// A ledger that begins with what is there.
    pub(crate) fn of(base: Map) -> Self {
        Self { base, ..Self::default() }
    }

    /// A put is asked for. No two have the same value.
    pub(crate) fn ask(&mut self, key: &str, len: usize) -> Put {
        self.count += 1;
        let mut value = format!("put {} ", self.count).into_bytes();
        value.resize(value.len().max(len), b'.');
        let (place, number) = (self.puts.len(), self.count);
        let put = Put { key: key.into(), value, place, number };
        self.puts.push((put.key.clone(), put.value.clone()));
        put
    }

    /// A put was acknowledged, and with it all before it.
    pub(crate) fn acknowledge(&mut self, put: &Put) {
        self.acknowledged = self.acknowledged.max(put.place + 1);
    }

    /// The store was opened again. What it holds has to be what came of some of the puts: the first
    /// so many, and no fewer than were acknowledged. That is what it has from now on.
    pub(crate) fn reopen(&mut self, found: &Map) -> Result<(), String> {
        let mut map = self.base.clone();
        for n in 0..=self.puts.len() {
            if n >= self.acknowledged && map == *found {
                *self = Self { base: map, count: self.count, ..Self::default() };
                return Ok(());
            }
            map.extend(self.puts.get(n).cloned());
        }
        Err(self.complaint(found))
    }

    fn complaint(&self, found: &Map) -> String {
        let mut due = self.base.clone();
        due.extend(self.puts[..self.acknowledged].iter().cloned());
        let late = &self.puts[self.acknowledged..];
        let mut complaints = Vec::new();
        for key in due.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
            let (due, found) = (due.get(key), found.get(key));
            let is_late = |value| late.iter().any(|(of, put)| of == key && put == value);
            if due != found && !found.is_some_and(is_late) {
                let key = String::from_utf8_lossy(key);
                let (due, found) = (self.told(due), self.told(found));
                complaints.push(format!("{key} is to hold {due}, and holds {found}"));
            }
        }
        if complaints.is_empty() {
            return "a put is there without one that came before it".into();
        }
        complaints.join("; ")
    }

    fn told(&self, value: Option<&Vec<u8>>) -> String {
        let Some(value) = value else { return "nothing".into() };
        let is_whole = value.iter().all(|&byte| byte != 0);
        let text = String::from_utf8_lossy(value);
        let mut words = text.split(' ');
        match (words.next(), words.next()) {
            (Some("put"), Some(number)) if is_whole => format!("put {number}"),
            _ => "what nobody has put".into(),
        }
    }
}
