//! `lode index`: points out of a file, in bounded memory, and on from where an earlier run was cut off.
//!
//! One thread reads the file while another writes; a batch is noted after it is durable, so what is noted is never
//! ahead of what is there. Notes are local keys of the store, under the folder of the collection and a hash of what
//! file is read how: a file that was changed begins anew, and so does another mapping. Points are set by
//! their ids, so what is read twice is there once.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use lode_index::{
    Point,
    import::{
        CsvRecords, ImportError, JsonLines, Mapping, NpyRows, ParquetRows, Records, SafetensorsRows,
    },
    operation::Operation,
};

use super::{Collections, check_made, settle, usage, writable};
use crate::{
    EventSink,
    collections::{CollectionAt, version::import_key},
    command::{CollectionImport, Failure, Outcome, PointsImported},
};

/// Points that are written at once; their bytes are bounded by the readers.
const BATCH_POINTS: usize = 2048;

/// Batches that are read ahead.
const AHEAD: usize = 2;

/// Bytes that are read from the file at once.
const BUFFER_BYTES: usize = 1 << 20;

/// How often it is noted how far a file was read.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Formats by what files are called.
const FORMATS: [(&str, &str); 7] = [
    ("npy", "npy"),
    ("safetensors", "safetensors"),
    ("jsonl", "jsonl"),
    ("ndjson", "jsonl"),
    ("csv", "csv"),
    ("parquet", "parquet"),
    ("pq", "parquet"),
];

/// Reads a file into a collection.
pub(super) fn import(
    collections: &Collections,
    request: &CollectionImport,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    events.start("index", &request.name);
    let at = collections.find(&request.name)?;
    let open = writable(collections, &request.name)?;
    check_made(
        &open,
        &request.using,
        request.embedder.as_deref(),
        request.metric.as_deref(),
    )?;
    let config = open.view().config().clone();
    if !config.vectors.contains_key(&request.using) && !config.sparse.contains_key(&request.using) {
        return Err(usage(format!(
            "{} has no vector {:?}; `lode collection show` lists its vectors",
            request.name, request.using
        )));
    }
    let path = Path::new(&request.file);
    let format = format_of(request, path)?;
    if matches!(format, "npy" | "safetensors")
        && (request.id.is_some() || request.payload.is_some())
    {
        return Err(usage(format!(
            "{format} files have vectors alone: no ids, no payload"
        ))
        .advise(
            "leave --id and --payload out, or put vectors and payload into Parquet or JSON lines",
        ));
    }
    let opened = |error: io::Error| {
        let failure = Failure::failed(format!("{}: {error}", request.file));
        match error.kind() {
            io::ErrorKind::NotFound => Failure::not_found(failure.message),
            _ => failure,
        }
    };
    let file = File::open(path).map_err(opened)?;
    let metadata = file.metadata().map_err(opened)?;
    if !metadata.is_file() {
        return Err(usage(format!("{} is no file", request.file)));
    }
    let key = note_key(&at, request, &metadata);
    let store = collections.node.store();
    let noted = store.local_get(&key)?;
    let noted = noted.and_then(|bytes| Some(u64::from_le_bytes(bytes.as_ref().try_into().ok()?)));
    let first_id = match (request.first_id, &request.id, noted) {
        (Some(first), _, _) => first,
        (None, None, None) if !open.view().is_empty() => {
            return Err(Failure::refused(format!(
                "{} has points, and those of the file have no ids",
                request.name
            ))
            .advise("say where ids are with --id FIELD, or the number of the first point with --first-id N"));
        }
        (None, _, _) => 0,
    };
    let mapping = Mapping {
        id: request.id.clone(),
        first_id,
        vector: request.vector.clone(),
        vector_name: request.using.clone(),
        payload: request.payload.clone(),
    };
    let before = noted.unwrap_or(0);
    if before > 0 {
        events.note(format!("going on behind the first {before} points"));
    }
    let reading = Reading {
        file,
        format,
        mapping,
        read: Arc::default(),
    };
    let (read, total) = (Arc::clone(&reading.read), metadata.len());
    let mut done = 0;
    let mut last_note = Instant::now();
    let written = thread::scope(|scope| {
        let (sender, batches) = mpsc::sync_channel(AHEAD);
        scope.spawn(move || reading.run(&sender));
        // dropping `batches` ends the reader
        for batch in batches {
            if events.is_cancelled() {
                return Err(Failure::cancelled());
            }
            let mut points: Vec<Point> =
                batch.map_err(|error| import_failure(&request.file, &error))?;
            let count = points.len() as u64;
            let held = before.saturating_sub(done).min(count);
            points.drain(..usize::try_from(held).unwrap_or(usize::MAX));
            if !points.is_empty() {
                open.apply(Operation::Upsert(points)).map_err(|error| {
                    let failure = Failure::from(error);
                    let message = format!(
                        "{}, records {} to {}: {}",
                        request.file,
                        done + held + 1,
                        done + count,
                        failure.message
                    );
                    Failure { message, ..failure }
                })?;
            }
            done += count;
            if done > before && last_note.elapsed() >= NOTE_EVERY {
                store.local_set(&key, &done.to_le_bytes())?;
                last_note = Instant::now();
            }
            events.progress("index", read.load(Ordering::Relaxed).min(total), total, 0);
        }
        Ok(())
    });
    if let Err(failure) = written {
        if done > before {
            store.local_set(&key, &done.to_le_bytes())?;
        }
        return Err(failure);
    }
    settle(&open, events)?;
    if store.local_get(&key)?.is_some() {
        store.local_delete(&key)?;
    }
    Ok(Outcome::PointsImported(PointsImported {
        name: collections.full_name(&at)?,
        points: done,
        points_before: before.min(done),
        points_total: open.view().len(),
    }))
}

fn import_failure(file: &str, error: &ImportError) -> Failure {
    match error {
        ImportError::Io(error) => Failure::failed(format!("{file}: {error}")),
        other => usage(format!("{file}: {other}")),
    }
}

/// The format of a file: as it was said, else by its name.
fn format_of(request: &CollectionImport, path: &Path) -> Result<&'static str, Failure> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let said = request.format.as_deref().or(extension).unwrap_or_default();
    let found = FORMATS
        .iter()
        .find(|(name, _)| said.eq_ignore_ascii_case(name));
    found.map(|(_, format)| *format).ok_or_else(|| {
        Failure::usage(format!("{}: not a format that is read", request.file))
            .advise("say --format npy, safetensors, jsonl, csv or parquet")
    })
}

/// Where it is noted how far this file was read this way.
fn note_key(at: &CollectionAt, request: &CollectionImport, metadata: &std::fs::Metadata) -> String {
    let what = serde_json::json!([
        request.file,
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        request.format,
        request.id,
        request.first_id,
        request.vector,
        request.using,
        request.payload,
    ]);
    import_key(
        at,
        &blake3::hash(what.to_string().as_bytes()).to_hex()[..32],
    )
}

/// A file on its way.
struct Reading {
    file: File,
    format: &'static str,
    mapping: Mapping,
    /// Bytes of the file that were read.
    read: Arc<AtomicU64>,
}

type Batch = Result<Vec<Point>, ImportError>;

impl Reading {
    /// Reads batches until there are no more, or nobody takes them.
    fn run(self, sender: &mpsc::SyncSender<Batch>) {
        let read = Arc::clone(&self.read);
        let mut records = match self.open() {
            Ok(records) => records,
            Err(error) => return drop(sender.send(Err(error))),
        };
        loop {
            let batch = records.next_batch(BATCH_POINTS);
            if matches!(&batch, Ok(points) if points.is_empty()) {
                read.store(u64::MAX, Ordering::Relaxed);
                return;
            }
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    }

    fn open(self) -> Result<Box<dyn Records>, ImportError> {
        if self.format == "parquet" {
            // it is read from many places: how far it is follows from its rows
            let records = ParquetRows::open(self.file.try_clone()?, self.mapping)?;
            return Ok(Box::new(Counted {
                rows: records.rows().max(1),
                len: self.file.metadata()?.len(),
                done: 0,
                read: self.read,
                records,
            }));
        }
        let counting = Counting {
            file: self.file,
            read: self.read,
        };
        let from = BufReader::with_capacity(BUFFER_BYTES, counting);
        Ok(match self.format {
            "npy" => Box::new(NpyRows::open(from, self.mapping)?),
            "safetensors" => Box::new(SafetensorsRows::open(from, self.mapping)?),
            "csv" => Box::new(CsvRecords::open(from, self.mapping)?),
            _ => Box::new(JsonLines::new(from, self.mapping)),
        })
    }
}

/// A file that counts what is read of it.
#[derive(Debug)]
struct Counting {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Seek for Counting {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = self.file.seek(to)?;
        self.read.store(at, Ordering::Relaxed);
        Ok(at)
    }
}

/// Records that say how far they are by how many there are.
struct Counted {
    records: ParquetRows,
    rows: u64,
    len: u64,
    done: u64,
    read: Arc<AtomicU64>,
}

impl Records for Counted {
    fn next_batch(&mut self, max: usize) -> Batch {
        let batch = self.records.next_batch(max)?;
        self.done += batch.len() as u64;
        let share = u128::from(self.len) * u128::from(self.done) / u128::from(self.rows);
        self.read
            .store(u64::try_from(share).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(batch)
    }
}
