//! Memory for the bodies of answers, of which there is so much for all of them together.
//!
//! A body that is read step by step takes room for two steps before it reads the first. While there is
//! plenty, steps are long; when half of the room is taken they are short, so that many who read slowly
//! leave others their turn. The room is the process's, since its memory is.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use lode_node::command::{Failure, FailureKind};

use crate::limits::{BODY_ROOM_BYTES, PLACE_TIMEOUT, SHORT_STEP_BYTES, STEP_BYTES};

/// What room is handed out in.
const UNIT_BYTES: u64 = 16 * 1024;

const UNITS: u32 = units(BODY_ROOM_BYTES);

static ROOM: Semaphore = Semaphore::const_new(UNITS as usize);

/// Bodies that wait for room.
static WAITING: AtomicU64 = AtomicU64::new(0);

/// Counts one of them while it lives: the client may leave.
struct Waiting;

impl Waiting {
    fn new() -> Self {
        WAITING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many bodies wait for room, and how many bytes of it are taken.
pub(crate) fn figures() -> (u64, u64) {
    let taken = u64::from(UNITS).saturating_sub(ROOM.available_permits() as u64);
    (WAITING.load(Ordering::Relaxed), taken * UNIT_BYTES)
}

/// Room for the steps of one body.
#[derive(Debug)]
pub(crate) struct Place {
    step_bytes: u64,
    _held: SemaphorePermit<'static>,
}

impl Place {
    /// Room for a body of so many bytes.
    ///
    /// # Errors
    /// There is none for too long: others have it, who read slowly.
    pub(crate) async fn take(length: u64) -> Result<Self, Failure> {
        Self::take_of(&ROOM, UNITS, length).await
    }

    /// Most bytes to read at once.
    pub(crate) fn step_bytes(&self) -> u64 {
        self.step_bytes
    }

    async fn take_of(room: &'static Semaphore, total: u32, length: u64) -> Result<Self, Failure> {
        let long = units(length.min(2 * STEP_BYTES));
        if room.available_permits() >= (total / 2 + long) as usize
            && let Ok(held) = room.try_acquire_many(long)
        {
            return Ok(Self {
                step_bytes: STEP_BYTES,
                _held: held,
            });
        }
        let short = units(length.min(2 * SHORT_STEP_BYTES));
        let _waiting = Waiting::new();
        match tokio::time::timeout(PLACE_TIMEOUT, room.acquire_many(short)).await {
            Ok(Ok(held)) => Ok(Self {
                step_bytes: SHORT_STEP_BYTES,
                _held: held,
            }),
            _ => Err(Failure {
                kind: FailureKind::NoPeer,
                message: "this node sends as much at once as it has memory for".to_owned(),
                advice: Some("ask again later".to_owned()),
            }),
        }
    }
}

/// Units that hold so many bytes; at least one.
const fn units(bytes: u64) -> u32 {
    let units = bytes.div_ceil(UNIT_BYTES);
    assert!(units <= u32::MAX as u64);
    // Checked in the line above.
    #[allow(clippy::cast_possible_truncation)]
    let units = units as u32;
    if units == 0 { 1 } else { units }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn room(units: u32) -> &'static Semaphore {
        Box::leak(Box::new(Semaphore::new(units as usize)))
    }

    #[tokio::test]
    async fn steps_are_long_while_there_is_plenty_and_short_when_half_is_taken() {
        let total = 8 * units(2 * STEP_BYTES);
        let room = room(total);
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(Place::take_of(room, total, u64::MAX).await.unwrap());
        }
        assert!(places.iter().all(|place| place.step_bytes() == STEP_BYTES));
        let more = 4 * STEP_BYTES / SHORT_STEP_BYTES;
        for _ in 0..more {
            let place = Place::take_of(room, total, u64::MAX).await.unwrap();
            assert_eq!(place.step_bytes(), SHORT_STEP_BYTES);
            places.push(place);
        }
        assert_eq!(room.available_permits(), 0);
        let mut late = Box::pin(Place::take_of(room, total, 1));
        assert!(futures_lite::future::poll_once(&mut late).await.is_none());
        assert!(figures().0 >= 1, "it waits");
        places.pop();
        assert!(late.await.is_ok());
    }

    #[tokio::test]
    async fn a_short_body_takes_no_more_than_it_has() {
        let total = 8;
        let room = room(total);
        let place = Place::take_of(room, total, 1).await.unwrap();
        assert_eq!(room.available_permits(), 7);
        drop(place);
        assert_eq!(room.available_permits(), 8);
    }
}
