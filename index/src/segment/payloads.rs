//! The payloads of a segment: one after the other by row, in frames that are compressed each on its own
//! (docs/format/segment.md, `payload-frames` and `payload-table`).

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, Write},
};

use roaring::RoaringBitmap;
use zstd::bulk::Decompressor;

use super::{
    SectionBytes,
    lists::{Lists, bytes_of_u32, bytes_of_u64, write_lists},
};
use crate::{limits::PAYLOAD_BYTES_MAX, payload::Payload, view::PartError};

/// Bytes of payloads after which a frame ends. Each result of a search costs the unpacking of one.
const FRAME_BYTES: usize = 4 << 10;

/// Most bytes of a frame that is read: frames end after 16 KiB at the latest (docs/format/segment.md), with a whole payload.
const FRAME_BYTES_MAX: usize = (16 << 10) + PAYLOAD_BYTES_MAX;

/// Bytes of unpacked frames that are kept while many rows are read.
const UNPACKED_BYTES: usize = 2 << 20;

/// How hard frames are compressed: fast, and already most of what there is to gain.
const LEVEL: i32 = 3;

/// First row of each frame.
const FIRST_ROWS: usize = 0;
/// Where each frame begins in its section, and where the last one ends.
const OFFSETS: usize = 1;
/// Where each payload ends in its frame.
const ENDS: usize = 2;

const DAMAGED: PartError = PartError::Damaged("payloads");

thread_local! {
    /// Making one costs as much as unpacking a frame.
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Writes frames; keeps what the table will say.
#[derive(Debug, Default)]
pub(crate) struct PayloadWriter {
    frame: Vec<u8>,
    rows: u32,
    first_rows: Vec<u32>,
    offsets: Vec<u64>,
    ends: Vec<u32>,
    written: u64,
}

impl PayloadWriter {
    /// Appends the payload of the next row.
    pub(crate) fn push(&mut self, payload: &Payload, out: &mut impl Write) -> io::Result<()> {
        if self.frame.is_empty() {
            self.first_rows.push(self.rows);
            self.offsets.push(self.written);
        }
        self.frame.extend_from_slice(payload.as_bytes());
        self.ends
            .push(u32::try_from(self.frame.len()).map_err(io::Error::other)?);
        self.rows += 1;
        if self.frame.len() >= FRAME_BYTES {
            self.end_frame(out)?;
        }
        Ok(())
    }

    fn end_frame(&mut self, out: &mut impl Write) -> io::Result<()> {
        if !self.frame.is_empty() {
            let packed = zstd::bulk::compress(&self.frame, LEVEL)?;
            out.write_all(&packed)?;
            self.written += packed.len() as u64;
            self.frame.clear();
        }
        Ok(())
    }

    /// Ends the last frame; the bytes of the table.
    pub(crate) fn finish(mut self, out: &mut impl Write) -> io::Result<Vec<u8>> {
        self.end_frame(out)?;
        self.offsets.push(self.written);
        let (first_rows, ends) = (bytes_of_u32(self.first_rows), bytes_of_u32(self.ends));
        let mut table = Vec::new();
        write_lists(
            &mut table,
            &[&first_rows, &bytes_of_u64(self.offsets), &ends],
        )?;
        Ok(table)
    }
}

/// The payloads of a segment's rows.
#[derive(Debug, Clone)]
pub(crate) struct Payloads {
    frames: SectionBytes,
    table: Lists<3>,
    rows: u32,
}

/// Reads payloads of rows that lie near one another now and then: the last frames stay unpacked.
pub(crate) struct Frames<'a> {
    payloads: &'a Payloads,
    unpacked: VecDeque<Frame>,
    bytes: usize,
}

impl Frames<'_> {
    /// The payload of a row.
    pub(crate) fn payload(&mut self, row: u32) -> Result<Payload, PartError> {
        let number = self.payloads.frame_of(row)?;
        if let Some(frame) = self.unpacked.iter().find(|frame| frame.number == number) {
            return self.payloads.in_frame(frame, row);
        }
        let frame = self.payloads.unpack(number)?;
        self.bytes += frame.bytes.len();
        while self.bytes > UNPACKED_BYTES
            && let Some(oldest) = self.unpacked.pop_front()
        {
            self.bytes -= oldest.bytes.len();
        }
        let payload = self.payloads.in_frame(&frame, row);
        self.unpacked.push_back(frame);
        payload
    }
}

/// A frame, unpacked.
struct Frame {
    number: usize,
    bytes: Vec<u8>,
    first_row: u32,
}

impl Payloads {
    pub(crate) fn open(
        frames: SectionBytes,
        table: SectionBytes,
        rows: u32,
    ) -> Result<Self, PartError> {
        let table = Lists::open(table).ok_or(DAMAGED)?;
        let (count, offsets) = (table.u32s(FIRST_ROWS).len(), table.u64s(OFFSETS).len());
        let fits = offsets == count + 1
            && table.u32s(ENDS).len() == rows as usize
            && (count > 0) == (rows > 0)
            && (count == 0 || table.u32(FIRST_ROWS, 0) == Some(0));
        fits.then_some(Self {
            frames,
            table,
            rows,
        })
        .ok_or(DAMAGED)
    }

    /// The payload of a row.
    pub(crate) fn payload(&self, row: u32) -> Result<Payload, PartError> {
        let frame = self.unpack(self.frame_of(row)?)?;
        self.in_frame(&frame, row)
    }

    /// Hands the payloads of rows to `found`; each frame is unpacked once.
    pub(crate) fn each(
        &self,
        rows: &RoaringBitmap,
        found: &mut dyn FnMut(u32, &Payload) -> Result<(), PartError>,
    ) -> Result<(), PartError> {
        let mut frame: Option<Frame> = None;
        for row in rows {
            let number = self.frame_of(row)?;
            let at_hand = frame.take().filter(|frame| frame.number == number);
            let at_hand = match at_hand {
                Some(at_hand) => at_hand,
                None => self.unpack(number)?,
            };
            found(row, &self.in_frame(&at_hand, row)?)?;
            frame = Some(at_hand);
        }
        Ok(())
    }

    /// Reads payloads of many rows.
    pub(crate) fn frames(&self) -> Frames<'_> {
        Frames {
            payloads: self,
            unpacked: VecDeque::new(),
            bytes: 0,
        }
    }

    fn frame_of(&self, row: u32) -> Result<usize, PartError> {
        if row >= self.rows {
            return Err(DAMAGED);
        }
        let first_rows = self.table.u32s(FIRST_ROWS);
        let after = first_rows.partition_point(|first| u32::from_le_bytes(*first) <= row);
        after.checked_sub(1).ok_or(DAMAGED)
    }

    fn unpack(&self, number: usize) -> Result<Frame, PartError> {
        let offset = |at| {
            let offset = self.table.u64(OFFSETS, at).ok_or(DAMAGED)?;
            usize::try_from(offset).map_err(|_| DAMAGED)
        };
        let range = offset(number)?..offset(number + 1)?;
        let packed = self.frames.get(range.clone()).ok_or(DAMAGED)?;
        self.frames.ask(range);
        let first_row = self.table.u32(FIRST_ROWS, number).ok_or(DAMAGED)?;
        let next_row = self.table.u32(FIRST_ROWS, number + 1).unwrap_or(self.rows);
        let last = next_row.checked_sub(1).ok_or(DAMAGED)?;
        let len = self.table.u32(ENDS, last as usize).ok_or(DAMAGED)? as usize;
        if len > FRAME_BYTES_MAX {
            return Err(DAMAGED);
        }
        let bytes = unpacked(packed, len).map_err(|_| DAMAGED)?;
        if bytes.len() != len {
            return Err(DAMAGED);
        }
        Ok(Frame {
            number,
            bytes,
            first_row,
        })
    }

    fn in_frame(&self, frame: &Frame, row: u32) -> Result<Payload, PartError> {
        let end = |row: u32| self.table.u32(ENDS, row as usize).ok_or(DAMAGED);
        let start = if row == frame.first_row {
            0
        } else {
            end(row.saturating_sub(1))?
        };
        let bytes = frame
            .bytes
            .get(start as usize..end(row)? as usize)
            .ok_or(DAMAGED)?;
        Payload::from_bytes(bytes).map_err(|_| DAMAGED)
    }
}

/// At most `len` bytes that were packed.
fn unpacked(packed: &[u8], len: usize) -> io::Result<Vec<u8>> {
    UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = match unpacker {
            Some(unpacker) => unpacker,
            none => none.insert(Decompressor::new()?),
        };
        unpacker.decompress(packed, len)
    })
}
