//! The ids of a segment's points: by id, and by row (docs/format/segment.md, `ids`).

use std::io::{self, Write};

use super::{
    SectionBytes,
    lists::{Lists, bytes_of_u32, bytes_of_u64, write_lists},
};
use crate::{id::PointId, view::PartError};

const NUMBERS: usize = 0;
const UUIDS: usize = 1;
/// Rows in the order of ids.
const ROWS: usize = 2;
/// Where in that order each row is.
const RANKS: usize = 3;
const VERSIONS: usize = 4;

/// The ids and versions of a segment's rows.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    lists: Lists<5>,
    rows: u32,
}

/// Writes the section for rows in their order.
pub(crate) fn write_ids(out: &mut impl Write, points: &[(PointId, u64)]) -> io::Result<()> {
    let count = u32::try_from(points.len()).map_err(io::Error::other)?;
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_unstable_by_key(|row| points[*row as usize].0);
    let mut ranks = vec![0; points.len()];
    for (rank, row) in (0..count).zip(&order) {
        ranks[*row as usize] = rank;
    }
    let ids = || order.iter().map(|row| points[*row as usize].0);
    let numbers = ids().filter_map(|id| match id {
        PointId::Number(number) => Some(number),
        PointId::Uuid(_) => None,
    });
    let uuids = ids().filter_map(|id| match id {
        PointId::Uuid(bytes) => Some(bytes),
        PointId::Number(_) => None,
    });
    write_lists(
        out,
        &[
            &bytes_of_u64(numbers),
            &uuids.flatten().collect::<Vec<_>>(),
            &bytes_of_u32(order.iter().copied()),
            &bytes_of_u32(ranks),
            &bytes_of_u64(points.iter().map(|(_, version)| *version)),
        ],
    )
}

const DAMAGED: PartError = PartError::Damaged("ids");

impl Ids {
    /// Opens the section; its lists have lengths that belong together.
    pub(crate) fn open(bytes: SectionBytes) -> Result<Self, PartError> {
        let lists = Lists::open(bytes).ok_or(DAMAGED)?;
        let (numbers, uuids) = (lists.list(NUMBERS).len(), lists.list(UUIDS).len());
        let rows = numbers / 8 + uuids / 16;
        let fits = numbers % 8 == 0
            && uuids % 16 == 0
            && lists.list(ROWS).len() == 4 * rows
            && lists.list(RANKS).len() == 4 * rows
            && lists.list(VERSIONS).len() == 8 * rows;
        let rows = u32::try_from(rows).ok().filter(|_| fits).ok_or(DAMAGED)?;
        Ok(Self { lists, rows })
    }

    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    pub(crate) fn version(&self, row: u32) -> Result<u64, PartError> {
        self.lists.u64(VERSIONS, row as usize).ok_or(DAMAGED)
    }

    pub(crate) fn id(&self, row: u32) -> Result<PointId, PartError> {
        let rank = self.lists.u32(RANKS, row as usize).ok_or(DAMAGED)?;
        self.at_rank(rank).ok_or(DAMAGED)
    }

    /// Asks for the ids and versions of rows that will be looked at.
    pub(crate) fn ask(&self, rows: impl Iterator<Item = u32> + Clone) {
        for row in rows.clone().map(|row| row as usize) {
            self.lists.ask(RANKS, 4 * row..4 * row + 4);
            self.lists.ask(VERSIONS, 8 * row..8 * row + 8);
        }
        for row in rows {
            let rank = self.lists.u32(RANKS, row as usize).unwrap_or(u32::MAX);
            let (list, at, len) = match rank.checked_sub(self.numbers()) {
                None => (NUMBERS, rank as usize, 8),
                Some(uuid) => (UUIDS, uuid as usize, 16),
            };
            self.lists.ask(list, len * at..len * (at + 1));
        }
    }

    pub(crate) fn find(&self, id: PointId) -> Result<Option<u32>, PartError> {
        let rank = self.first_not_below(id);
        match self.at_rank(rank) {
            Some(found) if found == id => self.row_at(rank).map(Some),
            _ => Ok(None),
        }
    }

    /// Ids with their rows, ascending from an id on.
    pub(crate) fn from(
        &self,
        id: Option<PointId>,
    ) -> impl Iterator<Item = Result<(PointId, u32), PartError>> {
        let start = id.map_or(0, |id| self.first_not_below(id));
        (start..self.rows).map(|rank| Ok((self.at_rank(rank).ok_or(DAMAGED)?, self.row_at(rank)?)))
    }

    /// Checks every number: ids ascend, and rows are in one place each.
    pub(crate) fn check(&self) -> Result<(), PartError> {
        for rank in 0..self.rows {
            let ascends = rank == 0 || self.at_rank(rank - 1) < self.at_rank(rank);
            let row = self.row_at(rank)?;
            if !ascends || self.lists.u32(RANKS, row as usize) != Some(rank) {
                return Err(DAMAGED);
            }
        }
        Ok(())
    }

    fn numbers(&self) -> u32 {
        u32::try_from(self.lists.u64s(NUMBERS).len()).unwrap_or(u32::MAX)
    }

    fn at_rank(&self, rank: u32) -> Option<PointId> {
        let numbers = self.numbers();
        if rank < numbers {
            self.lists.u64(NUMBERS, rank as usize).map(PointId::Number)
        } else {
            let (uuids, _) = self.lists.list(UUIDS).as_chunks::<16>();
            uuids
                .get((rank - numbers) as usize)
                .copied()
                .map(PointId::Uuid)
        }
    }

    fn row_at(&self, rank: u32) -> Result<u32, PartError> {
        let row = self.lists.u32(ROWS, rank as usize);
        row.filter(|row| *row < self.rows).ok_or(DAMAGED)
    }

    fn first_not_below(&self, id: PointId) -> u32 {
        let found = match id {
            PointId::Number(number) => {
                let numbers = self.lists.u64s(NUMBERS);
                numbers.partition_point(|other| u64::from_le_bytes(*other) < number)
            }
            PointId::Uuid(bytes) => {
                let (uuids, _) = self.lists.list(UUIDS).as_chunks::<16>();
                self.numbers() as usize + uuids.partition_point(|other| *other < bytes)
            }
        };
        u32::try_from(found).unwrap_or(self.rows)
    }
}
