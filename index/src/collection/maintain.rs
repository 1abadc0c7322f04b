//! Makes segments: of live parts that were sealed, of segments that merge.
//!
//! Segments are built without any lock, of parts that cannot change; only to be named in the head and in the
//! state do they need the writer for a moment. Rows that died while a segment was built are dead in it too.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

use roaring::RoaringBitmap;

use super::{
    Collection, CollectionError, Writer,
    head::HEAD_NAME,
    open::{head_bytes, log_name, segment_name},
};
use crate::{
    disk::{FileWriter, remove_if_there, replace},
    limits::{MERGE_SEGMENTS, SCANNED_POINTS_MAX, SEGMENTS_MAX},
    log::LogFile,
    part::Part,
    schema::CollectionConfig,
    segment::{
        build::{Source, SourceRows, build_segment},
        points::SegmentPart,
    },
    state::{Dead, Floor, SegmentState, State},
    vectors::GraphBuilder,
};

/// A segment of which more than one in so many rows is dead is made anew.
const DEAD_SHARE: u64 = 4;

/// Segments within a factor of so many points are of one size.
const SIZE_STEP: u64 = 8;

/// Points below which all segments are of one size.
const SMALL_POINTS: u64 = 16_384;

/// What a step of maintenance may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Points of the largest segment that a merge may make. Memory for a merge is about 200 bytes for each, and for
    /// one vector at a time its code and links.
    pub points_max: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            points_max: 2_000_000,
        }
    }
}

/// What a step of maintenance did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Maintained {
    /// Nothing: there is nothing to do.
    Nothing,
    /// A live part became a segment.
    Flushed,
    /// Segments became one.
    Merged {
        /// How many.
        segments: usize,
    },
}

/// What a segment is built of.
struct Input {
    /// The segment's number.
    number: u64,
    kept: RoaringBitmap,
}

impl Collection {
    /// Does one step of what there is to do: frees memory first, then merges.
    ///
    /// # Errors
    /// [`CollectionError`]; the collection is as before.
    pub fn maintain(&self, budget: &Budget) -> Result<Maintained, CollectionError> {
        self.seal_if_stale();
        if self.flush()? {
            return Ok(Maintained::Flushed);
        }
        let chosen = self.choose(budget);
        if chosen.is_empty() {
            return Ok(Maintained::Nothing);
        }
        self.merge(&chosen)?;
        Ok(Maintained::Merged {
            segments: chosen.len(),
        })
    }

    /// Makes segments of everything that is in memory; the log is empty after it.
    ///
    /// # Errors
    /// [`CollectionError`]; the collection is as before, or partly frozen.
    pub fn freeze(&self) -> Result<(), CollectionError> {
        {
            let mut writer = self.writer();
            let mut state = (*self.state()).clone();
            if !writer.log.is_empty() {
                self.seal(&mut writer, &mut state);
                self.publish(state);
            }
        }
        while self.flush()? {}
        Ok(())
    }

    /// Freezes, and makes every segment anew that has a dead row or lacks an index, so that no byte of a deleted
    /// vector or payload is in any file of the collection any more.
    ///
    /// # Errors
    /// As [`Collection::freeze`].
    pub fn compact(&self) -> Result<(), CollectionError> {
        self.freeze()?;
        let numbers: Vec<u64> = {
            let writer = self.writer();
            let state = self.state();
            let stale = state.segments.iter().filter(|segment| {
                let dead = writer.floor.segments.get(&segment.number);
                dead.is_some_and(|dead| !dead.rows().is_empty())
                    || !has_indexes(&segment.part, &writer.floor.config)
            });
            stale.map(|segment| segment.number).collect()
        };
        numbers
            .into_iter()
            .try_for_each(|number| self.merge(&[number]))
    }

    /// Holds every byte of every segment to its hash; names those that are not what was written.
    pub fn verify(&self) -> Vec<crate::state::Damaged> {
        let state = self.state();
        let mut damaged = state.damaged.clone();
        for segment in &state.segments {
            if let Err(error) = segment.part.verify() {
                let what = error.to_string();
                let id = *segment.part.segment_id().as_bytes();
                damaged.push(crate::state::Damaged {
                    segment: segment.number,
                    what,
                    id,
                });
            }
        }
        damaged
    }

    /// Gives up the segments that could not be opened, and the points in them, so that writes are taken again.
    ///
    /// # Errors
    /// [`CollectionError`] if the head could not be written.
    pub fn forget_damaged(&self) -> Result<(), CollectionError> {
        let _flush = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let _merge = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writer = self.writer();
        let mut state = (*self.state()).clone();
        let given_up: Vec<u64> = state
            .damaged
            .drain(..)
            .map(|damaged| damaged.segment)
            .collect();
        let mut floor = writer.floor.clone();
        given_up
            .iter()
            .for_each(|number| drop(floor.segments.remove(number)));
        self.write_head(&mut writer, floor, state)?;
        drop(writer);
        self.remove(given_up.into_iter().map(segment_name))
    }

    /// Seals the live part: what comes next is in another file of the log.
    pub(super) fn seal(&self, writer: &mut Writer, state: &mut State) {
        let number = writer.log.number() + 1;
        state.seal(number);
        let nonce = writer.log.nonce().wrapping_add(1);
        writer.log = LogFile::new(Arc::clone(&self.disk), &self.dir, number, nonce);
    }

    /// Makes a segment of the oldest live part that was sealed; whether there was one.
    pub(super) fn flush(&self) -> Result<bool, CollectionError> {
        let _one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        let Some(sealed) = state.sealed.first() else {
            return Ok(false);
        };
        // what the log says of points in a damaged segment must stay until that is restored or given up
        if let Some(damaged) = state.damaged.first() {
            let (segment, what) = (damaged.segment, damaged.what.clone());
            return Err(CollectionError::Damaged { segment, what });
        }
        // rows that died since are needed where the log is replayed from the new floor
        let kept = sealed.dead_then.others(sealed.live.rows());
        let made = match kept.is_empty() {
            true => None,
            false => {
                let rows = SourceRows::new([(Source::Live(&sealed.live), &kept)]);
                let mut rows = rows.map_err(CollectionError::Part)?;
                let made = self.build(&mut rows, &sealed.floor.config, None)?;
                Some((made, rows.places()))
            }
        };
        let old_logs;
        {
            let mut writer = self.writer();
            let mut state = (*self.state()).clone();
            let sealed = state.sealed.remove(0);
            let mut floor = sealed.floor;
            floor.sealed.clear();
            old_logs = writer.floor.log..floor.log;
            if let Some(((number, part), places)) = made {
                let moved = |dead: &RoaringBitmap| Dead::new(moved([(dead, &kept, &places[0])]));
                let dead = moved(sealed.dead.rows());
                let log = floor.log;
                floor.segments.insert(number, Arc::default());
                for later in &mut state.sealed {
                    let then = later.floor.sealed.remove(&log).unwrap_or_default();
                    later
                        .floor
                        .segments
                        .insert(number, Arc::new(moved(then.rows())));
                }
                state.segments.push(SegmentState {
                    number,
                    part: Arc::new(part),
                    dead: Arc::new(dead),
                });
            }
            self.write_head(&mut writer, floor, state)?;
        }
        self.remove(old_logs.map(log_name))?;
        Ok(true)
    }

    /// Moves the floor on if that lets segments be made anew: one has many dead rows, or the indexes changed.
    fn seal_if_stale(&self) {
        let mut writer = self.writer();
        let state = self.state();
        let many =
            |dead: u64, segment: &SegmentState| dead * DEAD_SHARE > u64::from(segment.part.rows());
        let stale = state.segments.iter().any(|segment| {
            let at_floor = writer.floor.segments.get(&segment.number);
            let at_floor = at_floor.map_or(0, |dead| dead.rows().len());
            many(segment.dead.rows().len(), segment) && !many(at_floor, segment)
        });
        let indexes = state.config.schema != writer.floor.config.schema;
        if (stale || indexes) && state.sealed.is_empty() && !writer.log.is_empty() {
            let mut state = (*state).clone();
            self.seal(&mut writer, &mut state);
            self.publish(state);
        }
    }

    /// Which segments to merge: one with many dead rows or without an index that it should have, those without a graph once they
    /// have many points, or several of one size.
    fn choose(&self, budget: &Budget) -> Vec<u64> {
        let writer = self.writer();
        let state = self.state();
        let mut sizes: std::collections::BTreeMap<u32, Vec<(u64, u64)>> = Default::default();
        for segment in &state.segments {
            let rows = u64::from(segment.part.rows());
            let dead = writer.floor.segments.get(&segment.number);
            let dead = dead.map_or(0, |dead| dead.rows().len());
            if dead * DEAD_SHARE > rows || !has_indexes(&segment.part, &writer.floor.config) {
                return vec![segment.number];
            }
            let alive = rows - dead;
            let size = (alive / SMALL_POINTS).max(1).ilog(SIZE_STEP);
            sizes.entry(size).or_default().push((alive, segment.number));
        }
        if let Some(scanned) = self.scanned(&state, budget) {
            return scanned;
        }
        let many = state.segments.len() >= SEGMENTS_MAX / 2;
        for mut same in sizes.into_values() {
            same.sort_unstable();
            let mut points = 0;
            let fitting = same.into_iter().take_while(|(alive, _)| {
                points += alive;
                points <= budget.points_max
            });
            let fitting: Vec<u64> = fitting
                .map(|(_, number)| number)
                .take(MERGE_SEGMENTS)
                .collect();
            if fitting.len() >= MERGE_SEGMENTS || many && fitting.len() > 1 {
                return fitting;
            }
        }
        Vec::new()
    }

    /// The segments in which searches look at all vectors of a name, if there are many of these and they would get a graph
    /// together.
    fn scanned(&self, state: &State, budget: &Budget) -> Option<Vec<u64>> {
        // A quarter of them may be dead.
        let rows_min = u64::from(self.builder.rows_min());
        let enough = |vectors: u64| vectors > SCANNED_POINTS_MAX && vectors / 4 * 3 > rows_min;
        state.config.vectors.keys().find_map(|name| {
            let (mut points, mut vectors, mut found) = (0, 0, Vec::new());
            for segment in &state.segments {
                let part = &segment.part;
                let scanned = part.scanned(name);
                if scanned > 0 && points + u64::from(part.rows()) <= budget.points_max {
                    points += u64::from(part.rows());
                    vectors += scanned;
                    found.push(segment.number);
                }
            }
            enough(vectors).then_some(found)
        })
    }

    /// Makes one segment of several, without the rows that are dead at the floor.
    pub(super) fn merge(&self, numbers: &[u64]) -> Result<(), CollectionError> {
        let _one = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen: BTreeSet<u64> = numbers.iter().copied().collect();
        let (state, floor) = {
            let writer = self.writer();
            (self.state(), writer.floor.clone())
        };
        let mut inputs = Vec::new();
        let mut sources = Vec::new();
        for segment in state.segments.iter().filter(|s| chosen.contains(&s.number)) {
            let Some(dead) = floor.segments.get(&segment.number) else {
                continue;
            };
            let kept = dead.others(segment.part.rows());
            inputs.push(Input {
                number: segment.number,
                kept,
            });
            sources.push(Source::Segment(&segment.part));
        }
        let mut rows = SourceRows::new(
            sources
                .iter()
                .copied()
                .zip(inputs.iter().map(|input| &input.kept)),
        )?;
        let made = match inputs.iter().all(|input| input.kept.is_empty()) {
            true => None,
            false => Some(self.build(&mut rows, &floor.config, Some(&*self.builder))?),
        };
        let places = rows.places();
        drop(rows);
        {
            let mut writer = self.writer();
            let mut state = (*self.state()).clone();
            let mut floor = writer.floor.clone();
            // dead rows of the inputs, as a floor or the state has them, in rows of the output
            let carried = |dead_of: &dyn Fn(u64) -> RoaringBitmap| {
                let dead: Vec<_> = inputs.iter().map(|input| dead_of(input.number)).collect();
                let parts = dead.iter().zip(&inputs).zip(&places);
                moved(parts.map(|((dead, input), places)| (dead, &input.kept, places)))
            };
            let in_floor = |floor: &Floor, number: u64| {
                floor
                    .segments
                    .get(&number)
                    .map(|dead| dead.rows().clone())
                    .unwrap_or_default()
            };
            for later in &mut state.sealed {
                let dead = carried(&|number| in_floor(&later.floor, number));
                inputs
                    .iter()
                    .for_each(|input| drop(later.floor.segments.remove(&input.number)));
                if let Some((number, _)) = &made {
                    later
                        .floor
                        .segments
                        .insert(*number, Arc::new(Dead::new(dead)));
                }
            }
            let floor_dead = carried(&|number| in_floor(&floor, number));
            let dead = carried(&|number| {
                let segment = state
                    .segments
                    .iter()
                    .find(|segment| segment.number == number);
                segment
                    .map(|segment| segment.dead.rows().clone())
                    .unwrap_or_default()
            });
            state
                .segments
                .retain(|segment| !chosen.contains(&segment.number));
            inputs
                .iter()
                .for_each(|input| drop(floor.segments.remove(&input.number)));
            if let Some((number, part)) = made {
                floor
                    .segments
                    .insert(number, Arc::new(Dead::new(floor_dead)));
                state.segments.push(SegmentState {
                    number,
                    part: Arc::new(part),
                    dead: Arc::new(Dead::new(dead)),
                });
            }
            self.write_head(&mut writer, floor, state)?;
        }
        self.remove(inputs.iter().map(|input| segment_name(input.number)))
    }

    /// Writes a segment under its name, durably, and opens it.
    fn build(
        &self,
        rows: &mut SourceRows<'_>,
        config: &CollectionConfig,
        builder: Option<&dyn GraphBuilder>,
    ) -> Result<(u64, SegmentPart), CollectionError> {
        let number = {
            let mut writer = self.writer();
            let number = writer.next_segment;
            writer.next_segment += 1;
            number
        };
        let name = segment_name(number);
        let path = self.dir.join(&name);
        // a file of this number can only be what a crash left of an earlier try
        remove_if_there(&*self.disk, &path).map_err(self.io(&name))?;
        let written = (|| {
            let file = FileWriter::new(self.disk.create(&path).map_err(self.io(&name))?);
            let (_, file) = build_segment(file, config, rows, builder)?;
            file.sync().map_err(self.io(&name))?;
            self.disk.sync_dir(&self.dir).map_err(self.io(&name))?;
            let file = self.disk.segment(&path).map_err(|error| {
                let source = std::io::Error::other(error);
                CollectionError::Io {
                    path: path.clone(),
                    source: Arc::new(source),
                }
            })?;
            Ok(SegmentPart::open(file)?)
        })();
        match written {
            Ok(part) => Ok((number, part)),
            Err(error) => {
                // what is left of it is removed at the next open, if not now
                let _ = remove_if_there(&*self.disk, &path);
                Err(error)
            }
        }
    }

    /// Makes a floor durable, and the state that goes with it current.
    fn write_head(
        &self,
        writer: &mut Writer,
        floor: Floor,
        state: State,
    ) -> Result<(), CollectionError> {
        let bytes = head_bytes(writer, &floor, &state);
        replace(&*self.disk, &self.dir, HEAD_NAME, &bytes).map_err(self.io(HEAD_NAME))?;
        if let Err(error) = self.disk.sync_dir(&self.dir) {
            // the old head or the new one is on the disk, and nobody knows which
            writer.log.poison();
            return Err(self.io(HEAD_NAME)(error));
        }
        writer.floor = floor;
        self.publish(state);
        Ok(())
    }

    /// Removes files that the head does not name any more.
    fn remove(&self, names: impl Iterator<Item = String>) -> Result<(), CollectionError> {
        for name in names {
            remove_if_there(&*self.disk, &self.dir.join(&name)).map_err(self.io(&name))?;
        }
        Ok(())
    }
}

/// Whether a segment has the indexes that the configuration asks for, and no others.
fn has_indexes(part: &SegmentPart, config: &CollectionConfig) -> bool {
    part.fields().eq(config.schema.iter())
}

/// Dead rows of parts of which some rows were kept, in the rows of a part in which each kept one has its place.
fn moved<'a>(
    parts: impl IntoIterator<Item = (&'a RoaringBitmap, &'a RoaringBitmap, &'a Vec<u32>)>,
) -> RoaringBitmap {
    let mut moved = RoaringBitmap::new();
    for (dead, kept, places) in parts {
        for row in dead & kept {
            let rank = kept.rank(row) - 1;
            moved.extend(usize::try_from(rank).ok().and_then(|rank| places.get(rank)));
        }
    }
    moved
}
