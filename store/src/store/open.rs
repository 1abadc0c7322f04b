//! Opening a home: format, lock, index, log, containers, and what a crash left behind.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, RwLock},
};

use super::{Findings, Inner, OpenError, Options, protect::Protections, records};
use crate::{
    container::{ContainerId, Layout, OpenContainers},
    disk::{Access, Disk, exists, remove_if_there},
    index::{Changes, Index, IndexError},
    log::{Kind, Log, LogError},
    sidecar::{ChunkEntry, ContainerKind, Sidecar, SidecarError},
};

/// The format that this release writes.
const FORMAT: u64 = 1;

/// What may lie in a folder that becomes a home.
const OWN_NAMES: [&str; 13] = [
    "format",
    "format.new",
    "lock",
    "control.sock",
    "log",
    "containers",
    "partial",
    "cache",
    "index.redb",
    "index.redb.new",
    "keys",
    "port",
    "config.toml",
];

/// Records that go to the index in one commit while it is made.
const RECORDS_COMMIT: usize = 20_000;
/// Chunk places that are handed to the index at once.
const PLACES_PAGE: usize = 4096;

pub(super) fn open(home: &Path, options: Options) -> Result<Inner, OpenError> {
    let disk = options.disk.clone();
    let io = OpenError::io(home);
    disk.create_dir_all(home).map_err(&io)?;
    if !options.force_network
        && let Some(kind) = disk.network(home).map_err(&io)?
    {
        return Err(OpenError::NetworkFs {
            home: home.to_owned(),
            kind,
        });
    }
    let fresh = check_format(&*disk, home)?;
    let lock_path = home.join("lock");
    let lock = disk.lock(&lock_path).map_err(OpenError::io(&lock_path))?;
    let Some(lock) = lock else {
        let pid = disk.open(&lock_path, Access::Read).ok().and_then(|file| {
            let mut buffer = [0; 16];
            let len = file.read_at(&mut buffer, 0).ok()?;
            std::str::from_utf8(&buffer[..len])
                .ok()?
                .trim()
                .parse()
                .ok()
        });
        return Err(OpenError::Locked {
            home: home.to_owned(),
            pid,
        });
    };
    let layout = Layout::new(home);
    let log_dir = home.join("log");
    for dir in [&log_dir, layout.containers(), layout.partial_dir()] {
        disk.create_dir_all(dir).map_err(OpenError::io(dir))?;
    }
    if fresh {
        write_format(&*disk, home)?;
    }
    let mut findings = Findings::default();
    let (index, known) = open_index(&*disk, home, &options)?;
    let (log, gone) = match open_log(&options, &log_dir, &index, &known, &mut findings) {
        Err(LogOrIndex::Log(e)) => return Err(e.into()),
        Err(LogOrIndex::Index(e)) => return Err(e.into()),
        Ok(done) => done,
    };
    reconcile(&*disk, &layout, &index, &gone, &mut findings)?;
    clean_partial(&*disk, &layout)?;
    Ok(Inner {
        disk,
        home: home.to_owned(),
        layout,
        ids: Mutex::new(options.ids),
        options,
        index: RwLock::new(index.into()),
        recent: super::hand::RecentReads::default(),
        read: super::figures::Counts::default(),
        log,
        open: OpenContainers::default(),
        protect: Protections::default(),
        folded: super::signed::Folded::default(),
        roots: crate::root::Roots::default(),
        poisoned: OnceLock::new(),
        findings,
        gate: RwLock::new(()),
        upkeep: Mutex::new(()),
        content: Mutex::new(()),
        documents: RwLock::new(()),
        _lock: lock,
    })
}

/// Checks the format of the home; whether it is still to be written.
fn check_format(disk: &dyn Disk, home: &Path) -> Result<bool, OpenError> {
    let path = home.join("format");
    let io = OpenError::io(&path);
    let file = match disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            for name in disk.list(home).map_err(OpenError::io(home))? {
                let name = name.to_string_lossy();
                if !OWN_NAMES.contains(&&*name) {
                    return Err(OpenError::NotAHome {
                        home: home.to_owned(),
                        found: name.into_owned(),
                    });
                }
            }
            return Ok(true);
        }
        Err(e) => return Err(io(e)),
    };
    let mut text = [0; 64];
    let len = file.read_at(&mut text, 0).map_err(&io)?;
    let number = std::str::from_utf8(&text[..len]).ok().and_then(|text| {
        text.strip_prefix("lode home ")?
            .trim_end()
            .parse::<u64>()
            .ok()
    });
    match number {
        Some(FORMAT) => Ok(false),
        Some(found) if found > FORMAT => Err(OpenError::NewerFormat {
            home: home.to_owned(),
            found,
            supported: FORMAT,
        }),
        _ => Err(OpenError::Corrupt {
            path,
            offset: 0,
            what: format!("not \"lode home {FORMAT}\""),
        }),
    }
}

fn write_format(disk: &dyn Disk, home: &Path) -> Result<(), OpenError> {
    let (path, draft) = (home.join("format"), home.join("format.new"));
    let write = || {
        remove_if_there(disk, &draft)?;
        let file = disk.create(&draft)?;
        file.write_at(format!("lode home {FORMAT}\n").as_bytes(), 0)?;
        file.sync_data()?;
        disk.rename(&draft, &path)?;
        disk.sync_dir(home)
    };
    write().map_err(OpenError::io(&path))
}

type Segments = BTreeMap<u64, (u64, u64)>;

/// Opens the index, or an empty one in place of one that cannot be read.
fn open_index(
    disk: &dyn Disk,
    home: &Path,
    options: &Options,
) -> Result<(Index, Segments), OpenError> {
    let path = home.join("index.redb");
    let io = OpenError::io(&path);
    let there = exists(disk, &path).map_err(&io)?;
    let open = || {
        let index = Index::open(disk, &path, options.index_cache_bytes)?;
        let segments = index.segments()?;
        Ok::<_, IndexError>((index, segments))
    };
    let opened = match open() {
        Err(error) if there && !error.is_io() => {
            tracing::warn!(%error, "the index cannot be read; it is made anew from sidecars and log");
            disk.remove(&path).map_err(&io)?;
            open()?
        }
        other => other.map_err(|e| e.into_open(&path))?,
    };
    if !there {
        disk.sync_dir(home).map_err(OpenError::io(home))?;
    }
    Ok(opened)
}

pub(crate) enum LogOrIndex {
    Log(LogError),
    Index(IndexError),
}

impl From<LogError> for LogOrIndex {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<IndexError> for LogOrIndex {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

/// Opens the log and brings the index up to its end; returns the containers that it says are gone.
fn open_log(
    options: &Options,
    dir: &Path,
    index: &Index,
    known: &Segments,
    findings: &mut Findings,
) -> Result<(Log, HashSet<ContainerId>), LogOrIndex> {
    let mut gone = HashSet::new();
    let mut failed = None;
    let mut feed = Feed {
        index,
        changes: None,
        count: 0,
        seen: HashSet::new(),
        known,
    };
    let opened = Log::open(
        options.disk.clone(),
        dir,
        known,
        options.salvage,
        // other numbers than the container ids
        match options.ids {
            crate::log::Nonces::From(n) => crate::log::Nonces::From(!n),
            random => random,
        },
        &mut |found| {
            if let Some(kind @ (Kind::OutsideGone | Kind::ContainerGone)) = found.kind {
                gone.extend(records::gone_id(kind, &found.body()?));
            }
            feed.take(&found).map_err(|e| {
                failed = Some(e);
                // the reason is the one kept above
                LogError::Io {
                    path: dir.to_owned(),
                    source: io::Error::other("index"),
                }
            })
        },
    );
    let (log, recovered) = match (opened, failed) {
        (Err(_), Some(LogOrIndex::Index(e))) => return Err(e.into()),
        (Err(_), Some(LogOrIndex::Log(e))) => return Err(e.into()),
        (opened, _) => opened?,
    };
    let changes = match feed.changes.take() {
        Some(changes) => changes,
        None => index.change()?,
    };
    for (number, (nonce, end)) in &recovered.ends {
        if known.get(number).is_some_and(|(n, _)| n != nonce) && !feed.seen.contains(number) {
            changes.purge_segment(*number)?;
        }
        changes.put_segment(*number, *nonce, *end)?;
    }
    for number in known
        .keys()
        .filter(|number| !recovered.ends.contains_key(number))
    {
        changes.purge_segment(*number)?;
    }
    changes.commit()?;
    if recovered.torn_bytes > 0 {
        tracing::info!(
            bytes = recovered.torn_bytes,
            "cut off an unfinished write at the end of the log"
        );
    }
    for damage in &recovered.damage {
        tracing::error!(path = %damage.path.display(), start = damage.start, end = damage.end, "the log is damaged");
    }
    findings.index_rebuilt = known.is_empty() && !recovered.ends.is_empty();
    findings.torn_log_bytes = recovered.torn_bytes;
    findings.log_damage = recovered.damage;
    Ok((log, gone))
}

/// Hands records to the index, many a commit.
struct Feed<'a> {
    index: &'a Index,
    changes: Option<Changes>,
    count: usize,
    seen: HashSet<u64>,
    known: &'a Segments,
}

impl Feed<'_> {
    fn take(&mut self, found: &crate::log::Found<'_>) -> Result<(), LogOrIndex> {
        if self.count >= RECORDS_COMMIT {
            if let Some(changes) = self.changes.take() {
                changes.commit()?;
            }
            self.count = 0;
        }
        let changes = match &mut self.changes {
            Some(changes) => changes,
            none => none.insert(self.index.change()?),
        };
        let segment = found.at.segment;
        let stale = self
            .known
            .get(&segment)
            .is_some_and(|(nonce, _)| *nonce != found.nonce());
        if self.seen.insert(segment) && stale {
            changes.purge_segment(segment)?;
        }
        self.count += 1;
        records::index_found(changes, found)
    }
}

/// Brings the index in line with the sidecars that are there.
pub(super) fn reconcile(
    disk: &dyn Disk,
    layout: &Layout,
    index: &Index,
    gone: &HashSet<ContainerId>,
    findings: &mut Findings,
) -> Result<(), OpenError> {
    let (mut sides, mut files) = (BTreeSet::new(), HashSet::new());
    let root = layout.containers();
    for dir in disk.list(root).map_err(OpenError::io(root))? {
        let dir = root.join(dir);
        for name in disk.list(&dir).map_err(OpenError::io(&dir))? {
            let name = name.to_string_lossy();
            let Some((id, extension)) = name.split_once('.') else {
                continue;
            };
            let Ok(id) = id.parse::<ContainerId>() else {
                continue;
            };
            match extension {
                "side" => {
                    if gone.contains(&id) {
                        let path = layout.side(id);
                        disk.remove(&path).map_err(OpenError::io(&path))?;
                    } else {
                        sides.insert(id);
                    }
                }
                "whole" | "pack" => {
                    files.insert(id);
                }
                _ => {}
            }
        }
    }
    let mut lost = Vec::new();
    let mut after = None;
    loop {
        let page = index.containers_after(after, 1024)?;
        let Some(last) = page.last() else { break };
        after = Some(last.header.id);
        for known in page {
            let id = known.header.id;
            let whole = sides.remove(&id)
                && (known.header.kind == ContainerKind::Outside || files.contains(&id));
            if !whole {
                lost.push(id);
                if !gone.contains(&id) {
                    findings.containers_lost.push(layout.side(id));
                }
            }
        }
    }
    for id in sides {
        let path = layout.side(id);
        if let Err(what) = add_container(disk, layout, index, id, files.contains(&id))? {
            tracing::error!(path = %path.display(), what, "a sidecar is not usable");
            findings.containers_lost.push(path);
        }
    }
    if !lost.is_empty() {
        let changes = index.change()?;
        for id in &lost {
            changes.remove_container(*id)?;
        }
        changes.remove_stray_places()?;
        changes.commit()?;
    }
    Ok(())
}

/// Adds a container to the index from its sidecar, or says why its sidecar cannot be used.
pub(super) fn add_container(
    disk: &dyn Disk,
    layout: &Layout,
    index: &Index,
    id: ContainerId,
    has_data: bool,
) -> Result<Result<(), &'static str>, OpenError> {
    let path = layout.side(id);
    let io = OpenError::io(&path);
    let sidecar = match disk
        .open(&path, Access::Read)
        .map_err(&io)
        .map(Sidecar::open)?
    {
        Err(SidecarError::Damaged(what)) => return Ok(Err(what)),
        Err(SidecarError::Io(e)) => return Err(io(e)),
        Ok(sidecar) => sidecar,
    };
    let header = *sidecar.header();
    if header.id != id {
        return Ok(Err("it is the sidecar of another container"));
    }
    if header.kind != ContainerKind::Outside && !has_data {
        return Ok(Err("its container is missing"));
    }
    let changes = index.change()?;
    changes.put_container(&header, sidecar.path())?;
    let mut page: Vec<ChunkEntry> = Vec::new();
    sidecar
        .entries(&mut |entry| {
            page.push(entry);
            if page.len() == PLACES_PAGE {
                changes.put_places(&header, &page)?;
                page.clear();
            }
            Ok::<_, SideOrIndex>(())
        })
        .map_err(|e| match e {
            SideOrIndex::Index(e) => OpenError::Index(e),
            SideOrIndex::Side(SidecarError::Io(e)) => OpenError::io(&path)(e),
            SideOrIndex::Side(SidecarError::Damaged(what)) => OpenError::Corrupt {
                path: path.clone(),
                offset: 0,
                what: what.to_owned(),
            },
        })?;
    changes.put_places(&header, &page)?;
    changes.commit()?;
    Ok(Ok(()))
}

enum SideOrIndex {
    Side(SidecarError),
    Index(IndexError),
}

impl From<SidecarError> for SideOrIndex {
    fn from(error: SidecarError) -> Self {
        Self::Side(error)
    }
}

impl From<IndexError> for SideOrIndex {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

/// Removes what an interrupted writer left, but not downloads that have a journal to go on with.
fn clean_partial(disk: &dyn Disk, layout: &Layout) -> Result<(), OpenError> {
    let dir = layout.partial_dir();
    let names: Vec<PathBuf> = disk
        .list(dir)
        .map_err(OpenError::io(dir))?
        .into_iter()
        .map(PathBuf::from)
        .collect();
    let kept: HashSet<_> = names
        .iter()
        .filter(|name| name.extension().is_some_and(|e| e == "journal"))
        .filter_map(|name| name.file_stem())
        .collect();
    for name in &names {
        let own = name
            .extension()
            .is_some_and(|e| e == "whole" || e == "pack" || e == "side");
        if own && !name.file_stem().is_some_and(|stem| kept.contains(stem)) {
            let path = dir.join(name);
            remove_if_there(disk, &path).map_err(OpenError::io(&path))?;
        }
    }
    Ok(())
}
