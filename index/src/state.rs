//! A state of a collection: its parts, and which of their rows are dead. States are immutable and share what
//! they have in common; a write makes a new one, readers keep theirs.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use roaring::RoaringBitmap;

use crate::{
    id::PointId,
    live::{Live, StoredPoint},
    part::Part,
    point::StoredVectors,
    rows::RowSet,
    schema::CollectionConfig,
    segment::points::SegmentPart,
    view::PartError,
};

/// What a collection holds at one moment.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) config: Arc<CollectionConfig>,
    /// Operations so far.
    pub(crate) sequence: u64,
    pub(crate) segments: Vec<SegmentState>,
    /// Live parts that become segments, oldest first.
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) live: Arc<Live>,
    pub(crate) live_dead: Arc<Dead>,
    /// Segments that could not be opened.
    pub(crate) damaged: Vec<Damaged>,
}

/// A segment and its dead rows.
#[derive(Debug, Clone)]
pub(crate) struct SegmentState {
    pub(crate) number: u64,
    pub(crate) part: Arc<SegmentPart>,
    pub(crate) dead: Arc<Dead>,
}

/// A live part to which nothing is appended any more.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) live: Arc<Live>,
    pub(crate) dead: Arc<Dead>,
    /// What the head will say once this part is a segment.
    pub(crate) floor: Floor,
    /// Its rows that were dead when it was sealed.
    pub(crate) dead_then: Arc<Dead>,
}

/// A moment between two files of the log: the state before anything of the later one.
#[derive(Debug, Clone)]
pub(crate) struct Floor {
    pub(crate) config: Arc<CollectionConfig>,
    pub(crate) sequence: u64,
    /// The first file of the log that is not in segments.
    pub(crate) log: u64,
    /// Dead rows of segments by number.
    pub(crate) segments: BTreeMap<u64, Arc<Dead>>,
    /// Dead rows of live parts that were sealed before, by the log of their floor.
    pub(crate) sealed: BTreeMap<u64, Arc<Dead>>,
}

/// A segment that could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The number of its file.
    pub segment: u64,
    /// What is wrong.
    pub what: String,
    /// The id of the bytes that it should have.
    pub(crate) id: [u8; 32],
}

/// Rows that were deleted or superseded.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    rows: RoaringBitmap,
    alive: OnceLock<RowSet>,
}

impl Dead {
    pub(crate) fn new(rows: RoaringBitmap) -> Self {
        Self {
            rows,
            alive: OnceLock::new(),
        }
    }

    pub(crate) fn rows(&self) -> &RoaringBitmap {
        &self.rows
    }

    pub(crate) fn contains(&self, row: u32) -> bool {
        self.rows.contains(row)
    }

    /// The other rows of a part, as a search wants them; none if all are alive.
    pub(crate) fn alive(&self, rows: u32) -> Option<&RowSet> {
        if self.rows.is_empty() {
            return None;
        }
        Some(self.alive.get_or_init(|| RowSet::all_but(&self.rows, rows)))
    }

    /// The other rows of a part.
    pub(crate) fn others(&self, rows: u32) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..rows);
        all - &self.rows
    }

    pub(crate) fn insert(&mut self, row: u32) {
        self.rows.insert(row);
        self.alive = OnceLock::new();
    }
}

impl Clone for Dead {
    fn clone(&self) -> Self {
        Self::new(self.rows.clone())
    }
}

/// Names a part within a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PartKey {
    Segment(usize),
    Sealed(usize),
    Live,
}

/// A part with its dead rows.
#[derive(Clone, Copy)]
pub(crate) struct PartView<'a> {
    pub(crate) key: PartKey,
    pub(crate) part: &'a dyn Part,
    pub(crate) dead: &'a Dead,
}

impl PartView<'_> {
    /// Rows that are alive.
    pub(crate) fn count(&self) -> u64 {
        u64::from(self.part.rows()) - self.dead.rows.len()
    }
}

impl State {
    /// All parts, newest first: most reads of a point by id end early.
    pub(crate) fn parts(&self) -> impl Iterator<Item = PartView<'_>> {
        let live = PartView {
            key: PartKey::Live,
            part: &*self.live,
            dead: &self.live_dead,
        };
        let sealed = self
            .sealed
            .iter()
            .enumerate()
            .rev()
            .map(|(at, sealed)| PartView {
                key: PartKey::Sealed(at),
                part: &*sealed.live,
                dead: &sealed.dead,
            });
        let segments = self
            .segments
            .iter()
            .enumerate()
            .rev()
            .map(|(at, segment)| PartView {
                key: PartKey::Segment(at),
                part: &*segment.part,
                dead: &segment.dead,
            });
        std::iter::once(live).chain(sealed).chain(segments)
    }

    /// A part by its name.
    pub(crate) fn part(&self, key: PartKey) -> Option<PartView<'_>> {
        Some(match key {
            PartKey::Live => PartView {
                key,
                part: &*self.live,
                dead: &self.live_dead,
            },
            PartKey::Sealed(at) => {
                let sealed = self.sealed.get(at)?;
                PartView {
                    key,
                    part: &*sealed.live,
                    dead: &sealed.dead,
                }
            }
            PartKey::Segment(at) => {
                let segment = self.segments.get(at)?;
                PartView {
                    key,
                    part: &*segment.part,
                    dead: &segment.dead,
                }
            }
        })
    }

    /// Where a point is.
    pub(crate) fn find(&self, id: PointId) -> Result<Option<(PartKey, u32)>, PartError> {
        for view in self.parts() {
            if let Some(row) = view.part.find(id)?.filter(|row| !view.dead.contains(*row)) {
                return Ok(Some((view.key, row)));
            }
        }
        Ok(None)
    }

    /// Points that are alive.
    pub(crate) fn count(&self) -> u64 {
        self.parts().map(|view| view.count()).sum()
    }

    /// A point with its vectors as they are stored.
    pub(crate) fn stored(&self, key: PartKey, row: u32) -> Result<StoredPoint, PartError> {
        let view = self
            .part(key)
            .ok_or(PartError::Damaged("a part is missing"))?;
        let mut vectors = StoredVectors::default();
        for name in self.config.vectors.keys() {
            let stored = match key {
                PartKey::Live => self.live.stored(name, row),
                PartKey::Sealed(at) => self.sealed[at].live.stored(name, row),
                PartKey::Segment(at) => self.segments[at].part.stored(name, row),
            };
            vectors
                .dense
                .extend(stored.map(|stored| (name.clone(), stored.to_vec())));
        }
        for name in self.config.sparse.keys() {
            let stored = match key {
                PartKey::Live => self.live.sparse(name, row).cloned(),
                PartKey::Sealed(at) => self.sealed[at].live.sparse(name, row).cloned(),
                PartKey::Segment(at) => self.segments[at].part.sparse(name, row)?.map(Arc::new),
            };
            vectors
                .sparse
                .extend(stored.map(|stored| (name.clone(), stored)));
        }
        Ok(StoredPoint {
            id: view.part.id(row)?,
            version: view.part.version(row)?,
            payload: view.part.payload(row)?,
            vectors,
        })
    }

    /// Marks a row as dead.
    pub(crate) fn kill(&mut self, key: PartKey, row: u32) {
        let dead = match key {
            PartKey::Live => &mut self.live_dead,
            PartKey::Sealed(at) => &mut self.sealed[at].dead,
            PartKey::Segment(at) => &mut self.segments[at].dead,
        };
        Arc::make_mut(dead).insert(row);
    }

    /// Appends a point to the live part.
    pub(crate) fn push(&mut self, point: StoredPoint) {
        // what was worked out of the dead rows is about fewer rows
        if self.live_dead.alive.get().is_some() {
            self.live_dead = Arc::new(Dead::clone(&self.live_dead));
        }
        let config = Arc::clone(&self.config);
        Arc::make_mut(&mut self.live).push(point, &config.vectors);
    }

    /// The state as a floor, in front of a file of the log.
    pub(crate) fn floor(&self, log: u64) -> Floor {
        let segments = self.segments.iter();
        Floor {
            config: Arc::clone(&self.config),
            sequence: self.sequence,
            log,
            segments: segments.map(|s| (s.number, Arc::clone(&s.dead))).collect(),
            sealed: self
                .sealed
                .iter()
                .map(|s| (s.floor.log, Arc::clone(&s.dead)))
                .collect(),
        }
    }

    /// Seals the live part; what comes next is in a file of the log.
    pub(crate) fn seal(&mut self, log: u64) {
        let floor = self.floor(log);
        let dead = std::mem::take(&mut self.live_dead);
        self.sealed.push(Sealed {
            live: std::mem::take(&mut self.live),
            dead_then: Arc::clone(&dead),
            dead,
            floor,
        });
    }
}
