//! A key-value store in memory, and a log from which it is made again.
//!
//! Every put is a record behind the others. Puts that come while the log is busy go together in the
//! next write. A checkpoint writes what the store holds into a new log, which takes the old one's
//! name.
//!
//! It knows neither who turns its ring nor whether the machine is real.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use deferring::fs::File;
use deferring::{BufResult, Ring};
use futures_util::lock::Mutex as AsyncMutex;

use crate::bug::Bug;
use crate::record::{self, Map};

pub(crate) struct Store {
    ring: Ring,
    dir: PathBuf,
    bug: Option<Bug>,
    log: AsyncMutex<Log>,
    memory: Mutex<Memory>,
}

/// The file, for whoever writes.
struct Log {
    file: File,
    end: u64,
    /// How many puts are in it for good.
    committed: u64,
    /// No write has failed or was given up: what the file holds is known.
    is_sound: bool,
}

#[derive(Default)]
struct Memory {
    map: Map,
    /// Puts that are not in the log yet, and how many there were in all.
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
    put: u64,
}

impl Store {
    /// Opens the store in a directory, as the last one left it there, whatever became of that.
    pub(crate) async fn open(ring: &Ring, dir: &Path, bug: Option<Bug>) -> io::Result<Self> {
        let path = dir.join("log");
        let bytes = match ring.fs().read(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let (map, end) = record::replay(&bytes, bug);
        let file = File::options().write(true).create(true).open(ring, &path).await?;
        if end < bytes.len() && bug != Some(Bug::KeepsTornTail) {
            // A record that was torn may become whole again behind one that is written over it.
            file.set_len(end as u64).await?;
            file.sync_all().await?;
        }
        let log = Log { file, end: end as u64, committed: 0, is_sound: true };
        let memory = Mutex::new(Memory { map, ..Memory::default() });
        let dir = dir.to_owned();
        let store = Self { ring: ring.clone(), dir, bug, log: AsyncMutex::new(log), memory };
        store.sync_directory().await?;
        Ok(store)
    }

    /// Has a value under a key. When this returns, no power cut takes it back.
    pub(crate) async fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let number = {
            let mut memory = self.memory();
            memory.waiting.push((key.to_vec(), value.to_vec()));
            memory.put += 1;
            memory.put
        };
        // Whoever gets the log writes for all who wait.
        let mut log = self.log.lock().await;
        if log.committed < number {
            self.commit(&mut log).await?;
        }
        Ok(())
    }

    /// What the store holds.
    pub(crate) fn map(&self) -> Map {
        self.memory().map.clone()
    }

    async fn commit(&self, log: &mut Log) -> io::Result<()> {
        log.begin()?;
        let puts = std::mem::take(&mut self.memory().waiting);
        let mut bytes = Vec::new();
        for (key, value) in &puts {
            record::encode(&mut bytes, key, value);
        }
        let len = bytes.len() as u64;
        if self.has(Bug::TrustsWrite) {
            log.file.write_at(bytes, log.end).await.0?;
        } else {
            log.file.write_all_at(bytes, log.end).await.0?;
        }
        if self.has(Bug::AcksBeforeSync) {
            self.ring.fdatasync(log.file.fd()).detach();
        } else {
            self.sync(&log.file).await?;
        }
        log.end += len;
        log.committed += puts.len() as u64;
        self.memory().map.extend(puts);
        log.is_sound = true;
        Ok(())
    }

    /// Begins a new log that holds no more than it must.
    pub(crate) async fn checkpoint(&self) -> io::Result<()> {
        let mut log = self.log.lock().await;
        log.begin()?;
        let mut bytes = Vec::new();
        for (key, value) in &self.memory().map {
            record::encode(&mut bytes, key, value);
        }
        let len = bytes.len() as u64;
        let (new, path) = (self.dir.join("log.new"), self.dir.join("log"));
        let file = File::create(&self.ring, &new).await?;
        let BufResult(written, _) = file.write_all_at(bytes, 0).await;
        written?;
        if !self.has(Bug::RenamesBeforeSync) {
            self.sync(&file).await?;
        }
        self.ring.fs().rename(&new, &path).await?;
        if !self.has(Bug::ForgetsDirectory) {
            self.sync_directory().await?;
        }
        let old = std::mem::replace(&mut log.file, file);
        log.end = len;
        log.is_sound = true;
        old.close().await
    }

    /// What was written to a file is safe, or it is never known again what the disk has of it.
    async fn sync(&self, file: &File) -> io::Result<()> {
        match file.sync_data().await {
            Err(_) if self.has(Bug::RetriesSync) => file.sync_data().await,
            synced => synced,
        }
    }

    /// Names in the directory are safe.
    async fn sync_directory(&self) -> io::Result<()> {
        let dir = File::open(&self.ring, &self.dir).await?;
        dir.sync_all().await?;
        dir.close().await
    }

    pub(crate) async fn close(self) -> io::Result<()> {
        self.log.into_inner().file.close().await
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

impl Log {
    /// What is begun has to end well, or nobody knows what the file holds.
    fn begin(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_sound, false) {
            return Ok(());
        }
        Err(io::Error::other("a write to the log has failed; open the store again"))
    }
}
