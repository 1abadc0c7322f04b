//! Makes and opens collections: head, segments, then what the log says on top of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Condvar, Mutex, RwLock},
};

use super::{
    Collection, CollectionError, Writer, apply,
    commit::Queue,
    head::{HEAD_NAME, Head, read_head},
    segment_error,
};
use crate::{
    disk::{Disk, remove_if_there, replace},
    limits::HEAD_BYTES_MAX,
    log::{self, LogFile},
    part::Part,
    schema::CollectionConfig,
    segment::points::SegmentPart,
    state::{Damaged, Dead, Floor, SegmentState, State},
    vectors::BatchBuilder,
};

/// The name of a segment's file.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:08}.seg")
}

impl Collection {
    /// As [`Collection::create`], on any file system.
    ///
    /// # Errors
    /// As [`Collection::create`].
    pub fn create_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: CollectionConfig,
    ) -> Result<Self, CollectionError> {
        config.check()?;
        let io = |source| CollectionError::Io {
            path: dir.to_owned(),
            source: Arc::new(source),
        };
        match disk.create_dir(dir) {
            // a folder without a head is what a crash leaves of this very call
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                if !disk
                    .list(dir)
                    .map_err(io)?
                    .iter()
                    .all(|name| name.starts_with('.'))
                {
                    return Err(CollectionError::Exists {
                        path: dir.to_owned(),
                    });
                }
            }
            made => made.map_err(io)?,
        }
        let head = Head {
            config,
            sequence: 0,
            log: 0,
            next_segment: 0,
            segments: BTreeMap::new(),
        };
        replace(&*disk, dir, HEAD_NAME, &head.to_bytes()).map_err(io)?;
        disk.sync_dir(dir).map_err(io)?;
        Self::open_on(disk, dir)
    }

    /// As [`Collection::open`], on any file system.
    ///
    /// # Errors
    /// As [`Collection::open`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, CollectionError> {
        let path = dir.join(HEAD_NAME);
        let io = |source| CollectionError::Io {
            path: path.clone(),
            source: Arc::new(source),
        };
        let bytes = disk.read(&path, HEAD_BYTES_MAX).map_err(io)?;
        let head = read_head(&bytes).map_err(|source| CollectionError::Head {
            path: path.clone(),
            source,
        })?;
        let names = disk.list(dir).map_err(io)?;
        let logs = clean(&*disk, dir, &names, &head)?;
        let mut state = open_segments(&*disk, dir, &head);
        let floor = Floor {
            segments: head
                .segments
                .iter()
                .map(|(number, segment)| (*number, Arc::new(Dead::new(segment.dead.clone()))))
                .collect(),
            ..state.floor(head.log)
        };
        let log = replay(&disk, dir, &logs, head.log, &mut state)?;
        Ok(Self {
            dir: dir.to_owned(),
            disk,
            queue: Mutex::new(Queue::default()),
            committed: Condvar::new(),
            writer: Mutex::new(Writer {
                log,
                floor,
                next_segment: head.next_segment,
            }),
            current: RwLock::new(Arc::new(state)),
            flushing: Mutex::new(()),
            merging: Mutex::new(()),
            builder: Box::new(BatchBuilder::default()),
        })
    }
}

/// Removes what a crash left behind; the numbers of the log's files that are still needed.
fn clean(
    disk: &dyn Disk,
    dir: &Path,
    names: &[String],
    head: &Head,
) -> Result<BTreeSet<u64>, CollectionError> {
    let mut logs = BTreeSet::new();
    for name in names {
        let number = |suffix| {
            name.strip_suffix(suffix)
                .and_then(|n: &str| n.parse::<u64>().ok())
        };
        let needed = if let Some(number) = number(".log") {
            let needed = number >= head.log;
            if needed {
                logs.insert(number);
            }
            needed
        } else if let Some(number) = number(".seg") {
            head.segments.contains_key(&number)
        } else {
            !(name.starts_with('.') && name.ends_with(".part"))
        };
        if !needed {
            let path = dir.join(name);
            remove_if_there(disk, &path).map_err(|source| CollectionError::Io {
                path,
                source: Arc::new(source),
            })?;
        }
    }
    Ok(logs)
}

fn open_segments(disk: &dyn Disk, dir: &Path, head: &Head) -> State {
    let mut state = State {
        config: Arc::new(head.config.clone()),
        sequence: head.sequence,
        segments: Vec::new(),
        sealed: Vec::new(),
        live: Arc::default(),
        live_dead: Arc::default(),
        damaged: Vec::new(),
    };
    for (number, segment) in &head.segments {
        let opened = disk
            .segment(&dir.join(segment_name(*number)))
            .map_err(|error| segment_error(&error))
            .and_then(|file| SegmentPart::open(file).map_err(|error| error.to_string()))
            .and_then(|part| match *part.segment_id().as_bytes() == segment.id {
                true => Ok(part),
                false => Err("another segment than the head names".to_owned()),
            })
            .and_then(|part| match segment.dead.max() < Some(part.rows()) {
                true => Ok(part),
                false => Err("the head names dead rows that it does not have".to_owned()),
            });
        match opened {
            Ok(part) => state.segments.push(SegmentState {
                number: *number,
                part: Arc::new(part),
                dead: Arc::new(Dead::new(segment.dead.clone())),
            }),
            Err(what) => state.damaged.push(Damaged {
                segment: *number,
                what,
                id: segment.id,
            }),
        }
    }
    state
}

/// Does again what is in the log; every file but the last one was a live part that was sealed.
fn replay(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    logs: &BTreeSet<u64>,
    floor: u64,
    state: &mut State,
) -> Result<LogFile, CollectionError> {
    let nonce = || {
        u64::from_le_bytes(
            *blake3::hash(&unique())
                .as_bytes()
                .first_chunk()
                .expect("32"),
        )
    };
    let mut log = None;
    for (number, expected) in logs.iter().zip(floor..) {
        if *number != expected {
            return Err(CollectionError::Replay(format!(
                "{} is missing",
                log_name(expected)
            )));
        }
        if log.is_some() {
            state.seal(*number);
        }
        let opened = LogFile::open(Arc::clone(disk), dir, *number, nonce(), &mut |group| {
            apply::replay_group(state, group)
        })?;
        log = Some(opened.file);
    }
    Ok(log.unwrap_or_else(|| LogFile::new(Arc::clone(disk), dir, floor, nonce())))
}

/// Bytes that no earlier call gave: they tell files of one number apart.
fn unique() -> Vec<u8> {
    use std::{
        hash::{BuildHasher, RandomState},
        sync::atomic::{AtomicU64, Ordering},
        time::SystemTime,
    };
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let random = RandomState::new().hash_one((SystemTime::now(), std::process::id(), call));
    random.to_le_bytes().to_vec()
}

/// The bytes of the head for a floor.
pub(super) fn head_bytes(writer: &Writer, floor: &Floor, state: &State) -> Vec<u8> {
    let ids: BTreeMap<u64, [u8; 32]> = state
        .segments
        .iter()
        .map(|s| (s.number, *s.part.segment_id().as_bytes()))
        .collect();
    let ids: BTreeMap<u64, [u8; 32]> = state
        .damaged
        .iter()
        .map(|d| (d.segment, d.id))
        .chain(ids)
        .collect();
    let segments = floor.segments.iter().filter_map(|(number, dead)| {
        let id = *ids.get(number)?;
        Some((
            *number,
            super::head::HeadSegment {
                id,
                dead: dead.rows().clone(),
            },
        ))
    });
    let head = Head {
        config: (*floor.config).clone(),
        sequence: floor.sequence,
        log: floor.log,
        next_segment: writer.next_segment,
        segments: segments.collect(),
    };
    head.to_bytes()
}

pub(super) fn log_name(number: u64) -> String {
    log::file_name(number)
}
