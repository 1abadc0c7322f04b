//! The start of a download: which way the file goes, and what an earlier try left of it.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
};

use super::{
    Download, DownloadError, JournalHeader, JournalRecord, Options, Packs, SMALL_BYTES, State, all,
    coverage::{piece_hash, piece_range, pieces_of},
    folder::{self, There},
    journal::{self, Journal},
    lock,
    output::{KeptFile, Output, PartFile, Place},
    packs::Gather,
    written,
};
use crate::{
    container::ContainerId, disk::remove_if_there, outboard, sidecar::ContainerKind,
    store::WriteError,
};

impl Download {
    pub(super) fn begin_store(&mut self, options: &Options) -> Result<State, DownloadError> {
        let (mut new, mut new_bytes) = (Vec::new(), 0);
        for chunk in self.plan.chunks() {
            let (hash, len) = (self.list.hashes[chunk as usize], self.len_of(chunk));
            let another = || {
                options
                    .packs
                    .as_ref()
                    .is_some_and(|p| p.rely(false, &hash, len))
            };
            if !self.protection.holds(&hash)? && !another() {
                new.push(chunk);
                new_bytes += u64::from(len);
            }
        }
        let name = blake3::Hash::from(self.plan.digest).to_hex();
        let name = self.store.inner().layout.partial_dir().join(name.as_str());
        // another download of the same file may be at work; what is left for it is none of ours
        let claim = Claim::take(&name);
        let key = self.key(None);
        let mut earlier = match &claim {
            Ok(_) if self.plan.whole => self.earlier_container(&key)?,
            _ => None,
        };
        if let Some((id, journal)) = earlier.take_if(|_| new.is_empty()) {
            self.remove_container(id, &journal)?;
        }
        if let Some((id, journal)) = earlier {
            if let Some(output) = self.resume_container(id, &journal, &key)? {
                self.claim = Some(claim?);
                self.expect(options, false, self.plan.chunks().collect());
                return Ok(State::Writing(output));
            }
            self.remove_container(id, &journal)?;
        }
        let whole =
            self.plan.whole && self.plan.len > SMALL_BYTES && new_bytes * 2 >= self.plan.len;
        self.expect(options, false, new.clone());
        if new.is_empty() || !whole {
            let new: HashSet<u32> = new.into_iter().collect();
            let held = self.plan.chunks().filter(|chunk| !new.contains(chunk));
            held.for_each(|chunk| self.mark_all(chunk));
            if new.is_empty() {
                return Ok(State::Held);
            }
            let (packs, own) = match &options.packs {
                Some(packs) => (packs.clone(), false),
                None => (Packs::new(&self.store), true),
            };
            let gather = Gather::new(packs.clone());
            return Ok(State::Gathering { gather, packs, own });
        }
        self.claim = Some(claim?);
        let writer = self.store.whole_writer(self.plan.len)?;
        let header = JournalHeader {
            key,
            container: writer.id().0,
            path: Vec::new(),
        };
        self.start_journal(&writer.journal_path(), &header, &[])?;
        Ok(State::Writing(Output::Whole(writer)))
    }

    /// Lets other downloads leave chunks to this one.
    fn expect(&mut self, options: &Options, file: bool, chunks: Vec<u32>) {
        if let Some(packs) = &options.packs {
            let hashes = chunks
                .into_iter()
                .map(|chunk| self.list.hashes[chunk as usize])
                .collect();
            self.expected = Some(packs.expect(file, hashes));
        }
    }

    /// Leaves to other downloads what they will have written into the user's folder before this one
    /// finishes, and lets them leave to this one what is its own.
    fn share_file(&mut self, options: &Options) {
        let Some(packs) = &options.packs else {
            return;
        };
        let relied = self.plan.chunks().filter(|chunk| {
            packs.rely(
                true,
                &self.list.hashes[*chunk as usize],
                self.len_of(*chunk),
            )
        });
        let relied: HashSet<u32> = relied.collect();
        if self.plan.whole {
            let own: Vec<u32> = self.plan.chunks().filter(|c| !relied.contains(c)).collect();
            self.expect(options, true, own);
        }
        *lock(&self.relied) = relied;
    }

    pub(super) fn begin_file(
        &mut self,
        place: &Place,
        options: &Options,
    ) -> Result<State, DownloadError> {
        self.claim = Some(Claim::take(&place.part)?);
        let disk = self.store.inner().disk.clone();
        folder::walk(&*disk, &place.root, &place.name, true)?;
        let key = self.key(Some(place));
        // what is known without fetching anything needs no note
        self.part_key = (!self.plan.whole && self.wanted_bytes > 0).then_some(key);
        let name = blake3::Hash::from(key).to_hex();
        let path = self.store.inner().layout.partial_dir();
        let journal = path.join(format!("{}.journal", &name[..16]));
        let exists = || DownloadError::Exists {
            path: place.path.clone(),
        };
        match folder::look(&*disk, &place.path)? {
            There::Nothing if self.part_key.is_some() => written::forget(&self.store, &key)?,
            There::Nothing => {}
            There::Folder => {
                return Err(DownloadError::InTheWay {
                    path: place.path.clone(),
                    found: "a folder where a file must be",
                });
            }
            There::Link if place.force => {}
            There::Link => return Err(exists()),
            There::File if self.plan.whole => {
                let kept = KeptFile::find(&self.store, place, &self.list, &self.outboards)?;
                if let Some(kept) = kept {
                    remove_if_there(&*disk, &journal).map_err(DownloadError::io(&journal))?;
                    remove_if_there(&*disk, &place.part).map_err(DownloadError::io(&place.part))?;
                    self.plan.chunks().for_each(|chunk| self.mark_all(chunk));
                    self.expect(options, true, self.plan.chunks().collect());
                    return Ok(State::Kept(kept.into()));
                }
                if !place.force {
                    return Err(exists());
                }
            }
            There::File => {
                if written::is_there(&self.store, &key, &place.path)? {
                    self.plan.chunks().for_each(|chunk| self.mark_all(chunk));
                    return Ok(State::KeptPart);
                }
                // others are compared once they are complete
                let stat = disk.stat(&place.path);
                let len = stat.map_err(DownloadError::io(&place.path))?.len;
                if !place.force && len != self.plan.len {
                    return Err(exists());
                }
            }
        }
        let header = JournalHeader {
            key,
            container: 0,
            path: place.part.as_os_str().as_encoded_bytes().to_vec(),
        };
        let io = DownloadError::io(&journal);
        if journal::look(&*disk, &journal).map_err(&io)?.as_ref() == Some(&header) {
            let part = PartFile::resume(&self.store, place, self.plan.len, self.plan.whole)?;
            if let Some(part) = part {
                let output = Output::Part(part);
                let records = self.recall(&output, &journal)?;
                self.start_journal(&journal, &header, &records)?;
                self.share_file(options);
                return Ok(State::Writing(output));
            }
        }
        let part = PartFile::create(&self.store, place, self.plan.len, self.plan.whole)?;
        if self.plan.len > SMALL_BYTES {
            self.start_journal(&journal, &header, &[])
                .inspect_err(|_| part.discard())?;
        } else {
            remove_if_there(&*disk, &journal).map_err(io)?;
        }
        self.share_file(options);
        Ok(State::Writing(Output::Part(part)))
    }

    /// Names what is received, and where to.
    fn key(&self, place: Option<&Place>) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("lode download 1");
        hasher.update(&self.plan.digest);
        if let Some(place) = place {
            hasher.update(place.path.as_os_str().as_encoded_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    fn start_journal(
        &mut self,
        path: &Path,
        header: &JournalHeader,
        records: &[JournalRecord],
    ) -> Result<(), DownloadError> {
        let disk = &self.store.inner().disk;
        let journal = Journal::create(disk, path, header, records);
        self.journal = Some(journal.map_err(DownloadError::io(path))?);
        Ok(())
    }

    /// The whole container that an earlier try began, and its journal.
    fn earlier_container(
        &self,
        key: &[u8; 32],
    ) -> Result<Option<(ContainerId, PathBuf)>, DownloadError> {
        if self.plan.len <= SMALL_BYTES {
            return Ok(None);
        }
        let inner = self.store.inner();
        let dir = inner.layout.partial_dir();
        for path in journal::list(&*inner.disk, dir).map_err(DownloadError::io(dir))? {
            let header = journal::look(&*inner.disk, &path).map_err(DownloadError::io(&path))?;
            let Some(header) = header else {
                // a crash came before its first sync: nobody can go on with it
                let id = path
                    .file_stem()
                    .and_then(|stem| stem.to_str()?.parse().ok());
                match id {
                    Some(id) => self.remove_container(id, &path)?,
                    None => {
                        remove_if_there(&*inner.disk, &path).map_err(DownloadError::io(&path))?
                    }
                }
                continue;
            };
            if header.key == *key {
                return Ok(journal::container(&header).map(|id| (id, path)));
            }
        }
        Ok(None)
    }

    fn remove_container(&self, id: ContainerId, journal: &Path) -> Result<(), DownloadError> {
        let inner = self.store.inner();
        let data = inner.layout.partial_data(id, ContainerKind::Whole);
        for path in [journal, &data, &inner.layout.partial_side(id)] {
            remove_if_there(&*inner.disk, path).map_err(DownloadError::io(path))?;
        }
        Ok(())
    }

    fn resume_container(
        &mut self,
        id: ContainerId,
        journal: &Path,
        key: &[u8; 32],
    ) -> Result<Option<Output>, DownloadError> {
        let writer = match self.store.resume_whole_writer(id) {
            Ok(writer) if writer.len() == self.plan.len => writer,
            Ok(_) => return Ok(None),
            Err(WriteError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let output = Output::Whole(writer);
        let records = self.recall(&output, journal)?;
        let header = JournalHeader {
            key: *key,
            container: id.0,
            path: Vec::new(),
        };
        self.start_journal(journal, &header, &records)?;
        Ok(Some(output))
    }

    /// Reads and hashes the pieces that a journal names; returns and marks those that are what it says.
    fn recall(&self, output: &Output, path: &Path) -> Result<Vec<JournalRecord>, DownloadError> {
        let disk = &*self.store.inner().disk;
        let records = journal::read(disk, path).map_err(DownloadError::io(path))?;
        let mut chunks: BTreeMap<u32, BTreeMap<u8, [u8; 32]>> = BTreeMap::new();
        for record in records {
            let known = self.plan.first(record.chunk) == Some(record.chunk);
            if known && self.plan.pieces(record.chunk) & (1 << record.piece) != 0 {
                let pieces = chunks.entry(record.chunk).or_default();
                pieces.insert(record.piece, record.hash);
            }
        }
        let chunks: Vec<_> = chunks.into_iter().collect();
        let good = Mutex::new(Vec::new());
        all(&chunks, self.plan.len, |(chunk, pieces)| {
            let kept = self.recall_chunk(output, *chunk, pieces)?;
            self.mark(*chunk, kept.iter().fold(0, |bits, r| bits | (1 << r.piece)));
            lock(&good).extend(kept);
            Ok::<_, DownloadError>(true)
        })?;
        Ok(good.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn recall_chunk(
        &self,
        output: &Output,
        chunk: u32,
        pieces: &BTreeMap<u8, [u8; 32]>,
    ) -> Result<Vec<JournalRecord>, DownloadError> {
        let len = self.len_of(chunk);
        let record = |(piece, hash): (&u8, &[u8; 32])| JournalRecord {
            chunk,
            piece: *piece,
            hash: *hash,
        };
        let every = pieces_of(&(0..len)).count_ones() as usize == pieces.len();
        if every && self.plan.is_whole(chunk, &(0..len)) {
            // the chunk is complete: hashed as such, with its outboard
            let bytes = output.gather(&self.plan, chunk, &(0..len))?;
            if let Some((root, pairs)) = bytes.map(|bytes| outboard::compute(&bytes))
                && root == self.list.hashes[chunk as usize]
            {
                output.write_outboard_at(self.outboards.start(chunk), &pairs)?;
                return Ok(pieces.iter().map(record).collect());
            }
        }
        let mut kept = Vec::new();
        for (piece, hash) in pieces {
            let bytes = output.gather(&self.plan, chunk, &piece_range(*piece, len))?;
            let found = bytes.map(|bytes| piece_hash(&self.plan, chunk, len, *piece, &bytes));
            if found.as_ref() == Some(hash) {
                kept.push(record((piece, hash)));
            }
        }
        Ok(kept)
    }
}

/// What this process receives right now: a path, in one download at a time.
#[derive(Debug)]
pub(super) struct Claim(PathBuf);

static CLAIMS: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);

impl Claim {
    fn take(path: &Path) -> Result<Self, DownloadError> {
        if lock(&CLAIMS).insert(path.to_owned()) {
            Ok(Self(path.to_owned()))
        } else {
            Err(DownloadError::Busy {
                path: path.to_owned(),
            })
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&CLAIMS).remove(&self.0);
    }
}
